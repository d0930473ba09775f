"""Documents and dense rows for the experiments with variational inference, made once under a folder.

Real sets are files got by hand; nine documents in ten are drawn to train on. What can't be had is left out, and for the
large sets of the thesis there are stand-ins with planted topics.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from oocml import api
from oocml.data.dataset import Dataset
from oocml.data.fetch import fetch
from oocml.data.specs import load_spec
from oocml.data.split import split_path
from oocml.data.synth import synth
from oocml.errors import UsageError

from .datasets import TEST_ROWS, Splits, is_there, once

SHARE = 0.9
COMPONENTS = 64
"""Columns of dense rows made of documents or images."""
TOY = {"cols": 16, "classes": 32}
PANEL_BYTES = 2**18
"""Of documents: small, so that there are row blocks for batches."""
TOY_ROWS = 20_000
"""Ten times as many in full size, as of stand-ins."""
IMAGES = "train-images-idx3-ubyte.gz"


class Files(NamedTuple):
    """A set of documents got by hand, in a folder of its own."""

    format: str
    documents: str
    vocabulary: str


FILES = {
    "ap": Files("ldac", "ap.ldac", "vocab.txt"),
    "kos": Files("docword", "docword.kos.txt", "vocab.kos.txt"),
    "nips": Files("docword", "docword.nips.txt", "vocab.nips.txt"),
}
STAND_INS = {"enron": 4000, "nytimes": 3000, "pubmed": 20_000}
"""Their training documents; ten times as many in full size."""


def documents(name: str, folder: Path, data_dir: Path | None, seed: int, *, full: bool = False) -> Splits:
    """A set of word counts, real or made.

    Raises
    ------
    UsageError
        Its files have to be got by hand and aren't in ``data_dir/NAME``.
    """
    if name in STAND_INS:
        return stand_in(name, STAND_INS[name] * (10 if full else 1), folder, seed)
    files = FILES[name]
    train = folder / f"{name}-{seed}.zarr"
    if not (is_there(train) and is_there(Path(split_path(train)))):
        source, vocab = (given(data_dir, name, file) for file in (files.documents, files.vocabulary))
        folder.mkdir(parents=True, exist_ok=True)
        options = {
            "split": SHARE,
            "seed": seed,
            "vocab": str(vocab),
            "panel_bytes": PANEL_BYTES,
            "overwrite": True,
        }
        api.ingest(files.format, source, str(train), **options)
    return Splits(name, train, Path(split_path(train)))


def stand_in(name: str, rows: int, folder: Path, seed: int) -> Splits:
    """Planted documents in the shape of a spec, with fewer of them; words grow as the square root of documents."""
    spec = load_spec(name)
    cols = round((spec.cols or 1) * math.sqrt(rows / (spec.rows or rows)))
    train, test = (folder / f"{name}@{rows}-{seed}-{part}.zarr" for part in ("train", "test"))
    shape = {"cols": cols, "seed": seed, "panel_bytes": PANEL_BYTES, "overwrite": True}
    once(train, lambda: synth(spec, train, rows=rows, **shape))
    once(test, lambda: synth(spec, test, rows=max(TEST_ROWS // 2, rows // 10), split="test", **shape))
    return Splits(f"{name}@{rows}", train, test)


def given(data_dir: Path | None, name: str, file: str) -> Path:
    """``data_dir/name/file``, plain or compressed."""
    found = sorted((data_dir / name).glob(f"{file}*")) if data_dir is not None else []
    if not found:
        raise UsageError(f"{name} needs {name}/{file} (or {file}.gz) below --data-dir, got by hand")
    return found[0]


def rows(name: str, folder: Path, data_dir: Path | None, seed: int, *, full: bool = False) -> Splits:
    """Dense rows for mixtures.

    ``toy`` is planted. Documents (the thesis does not say how it made vectors of them) are tf-idf rows of unit length,
    projected on the 64 leading singular vectors of the training rows, and images on 64 principal components; every
    column then has mean 0 and variance 1 over the training rows. A tenth of the images is held out.

    Raises
    ------
    UsageError, OocmlError
        The data can't be had.
    """
    if name == "toy":
        n_rows = TOY_ROWS * (10 if full else 1)
        train, test = (folder / f"toy@{n_rows}-{seed}-{part}.zarr" for part in ("train", "test"))
        shape = {**TOY, "seed": seed, "overwrite": True}
        once(train, lambda: synth("toy", train, rows=n_rows, **shape))
        once(test, lambda: synth("toy", test, rows=n_rows // 10, split="test", **shape))
        return Splits(f"toy@{n_rows}", train, test)
    train, test = (folder / f"{name}-rows-{seed}-{part}.zarr" for part in ("train", "test"))
    if not (is_there(train) and is_there(test)):
        folder.mkdir(parents=True, exist_ok=True)
        make = _images if name == "fashion_mnist" else _vectors(name)
        for path, values in zip((train, test), make(folder, data_dir, seed), strict=True):
            source = path.with_suffix(".npy")
            np.save(source, values.astype(np.float32))
            api.ingest("npy", source, str(path), seed=seed, overwrite=True)
            source.unlink()
    return Splits(name, train, test)


Made = tuple[npt.NDArray[np.floating], npt.NDArray[np.floating]]
"""Training rows and test rows."""


def _vectors(name: str) -> Callable[[Path, Path | None, int], Made]:
    def make(folder: Path, data_dir: Path | None, seed: int) -> Made:
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfTransformer

        splits = documents(name, folder, data_dir, seed)
        X, Y = (scipy_of(path).astype(np.float64) for path in (splits.train, splits.test))
        weights = TfidfTransformer(sublinear_tf=True).fit(X)
        n = min(COMPONENTS, min(X.shape) - 1)
        turn = TruncatedSVD(n, random_state=seed).fit(weights.transform(X))
        return _standardised(turn.transform(weights.transform(X)), turn.transform(weights.transform(Y)))

    return make


def _images(folder: Path, data_dir: Path | None, seed: int) -> Made:
    try:
        path = given(data_dir, "fashion_mnist", IMAGES.removesuffix(".gz"))
    except UsageError:
        fetch("fashion_mnist", folder / "raw")
        path = folder / "raw" / IMAGES
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    pixels = np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 784).astype(np.float64)
    order = np.random.default_rng(seed).permutation(len(pixels))
    held_out = len(pixels) // 10
    train, test = pixels[order[held_out:]], pixels[order[:held_out]]
    center = train.mean(axis=0)
    _, vectors = np.linalg.eigh(np.cov(train.T))
    leading = vectors[:, ::-1][:, :COMPONENTS]
    return _standardised((train - center) @ leading, (test - center) @ leading)


def _standardised(train: npt.NDArray[np.floating], test: npt.NDArray[np.floating]) -> Made:
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    return (train - mean) / deviation, (test - mean) / deviation


def scipy_of(path: Path | None) -> Any:
    """A sparse dataset in memory, rows in stored order."""
    import scipy.sparse as sp

    dataset = Dataset.open(str(path))
    panels = [dataset.read_panel(p).X for p in range(dataset.n_panels)]
    blocks = [
        sp.csr_matrix((X.data, X.indices, X.indptr), (len(X.indptr) - 1, dataset.n_cols)) for X in panels
    ]
    return sp.vstack(blocks, format="csr")


def dense_of(path: Path | None) -> npt.NDArray[np.float32]:
    """A dense dataset in memory, rows in stored order."""
    dataset = Dataset.open(str(path))
    return np.concatenate([dataset.read_dense_panel(p) for p in range(dataset.n_panels)])
