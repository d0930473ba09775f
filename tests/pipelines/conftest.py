"""A small classification problem as a dataset on disk, with its test split."""

from __future__ import annotations

from pathlib import Path

import pytest

from oocml.data.synth import synth
from pipelines import datasets
from pipelines.datasets import Splits

SHAPE = {"cols": 300, "classes": 4, "nnz_per_row": 30.0}


@pytest.fixture(scope="session")
def splits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("splits")
    paths = folder / "train.zarr", folder / "test.zarr"
    for path, split, rows in zip(paths, ("train", "test"), (300, 100), strict=True):
        synth("lshtc1_small", path, split=split, rows=rows, workers=1, **SHAPE)
    return paths


@pytest.fixture(scope="session")
def rated(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    """A small planted set of ratings with its test set."""
    shape = {"rows": 120, "cols": 60, "nnz_per_row": 20.0, "panel_bytes": 2**12}
    return datasets.planted("ml_100k", tmp_path_factory.mktemp("rated"), task="factors", **shape)
