"""A small classification problem as a dataset on disk, with its test split."""

from __future__ import annotations

from pathlib import Path

import pytest

from oocml.data.synth import synth

SHAPE = {"cols": 300, "classes": 4, "nnz_per_row": 30.0}


@pytest.fixture(scope="session")
def splits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("splits")
    paths = folder / "train.zarr", folder / "test.zarr"
    for path, split, rows in zip(paths, ("train", "test"), (300, 100), strict=True):
        synth("lshtc1_small", path, split=split, rows=rows, workers=1, **SHAPE)
    return paths
