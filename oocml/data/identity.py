"""What makes a dataset the one it is: two with the same identity train and score alike."""

from __future__ import annotations

import hashlib

import numpy as np

from oocml.data.dataset import Dataset


def dataset_sha256(dataset: Dataset) -> str:
    """sha256 over what the dataset was made of, its shape and the checksums of its panels; reads O(panels)."""
    sizes = f"{dataset.attrs.get('sha256')} {dataset.n_rows} {dataset.n_cols} {dataset.label_kind};"
    digest = hashlib.sha256(sizes.encode())
    for name in ("panel_bounds", "panel_crc"):
        digest.update(np.asarray(dataset._read(name), "<i8").tobytes())
    return digest.hexdigest()
