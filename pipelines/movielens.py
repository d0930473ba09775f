"""MovieLens 100K in the two forms of the experiments: ratings for factorization, rows with side features for machines.

Both are split in the same seeded random way, nine ratings in ten to train on, so that errors can be compared.

In rows with features there is one row per rating and one column per user, item, age group, gender, occupation and
genre; every column that holds is 1. The target is the number of stars.
"""

from __future__ import annotations

import bisect
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from oocml import api
from oocml.data.fetch import fetch
from oocml.data.ingest import PANEL_BYTES
from oocml.data.parts import open_stream
from oocml.data.ratings import in_train
from oocml.data.split import split_path
from oocml.data.vocabulary import table_of
from oocml.types import Float64Array, Int64Array
from pipelines.datasets import Splits, is_there

SHARE = 0.9
AGES = (18, 25, 35, 45, 50, 56)
"""Where age groups begin: those of MovieLens 1M."""


def ratings(
    folder: Path, data_dir: Path | None = None, seed: int = 0, panel_bytes: int = PANEL_BYTES
) -> Splits:
    """The ratings as users x items, with a test set of the same rows.

    Parameters
    ----------
    folder
        Where datasets are made, once.
    data_dir
        Where ``ml-100k/ml-100k.inter`` is (and ``.user``, ``.item``); plain or compressed. Default: it is fetched.
    seed
        Of the split.
    panel_bytes
        As of `oocml.ingest`; row blocks are made of whole panels, so many of them take small ones.
    """
    of_size = "" if panel_bytes == PANEL_BYTES else f"-{panel_bytes}"
    train = folder / f"ml_100k-ratings-{seed}{of_size}.zarr"
    test = Path(split_path(train))
    if not (is_there(train) and is_there(test)):
        source = _file(".inter", folder, data_dir)
        options = {"seed": seed, "panel_bytes": panel_bytes, "overwrite": True}
        folder.mkdir(parents=True, exist_ok=True)
        api.ingest("ratings", source, str(train), split=SHARE, **options)
    return Splits("ml_100k", train, test)


def features(folder: Path, data_dir: Path | None = None, seed: int = 0) -> Splits:
    """The ratings as rows of features, with the split and the arguments of `ratings`."""
    parts = ("train", "test")
    train, test = (folder / f"ml_100k-features-{seed}-{part}.zarr" for part in parts)
    if not (is_there(train) and is_there(test)):
        users, items, y = _read_ratings(_file(".inter", folder, data_dir))
        blocks = [
            _groups(users, _side(_file(".user", folder, data_dir), _of_user)),
            _groups(items, _side(_file(".item", folder, data_dir), _of_item)),
        ]
        X = sp.hstack([block for block, _ in blocks], format="csr", dtype=np.float32)
        names = [name for _, names_of in blocks for name in names_of]
        drawn = in_train(_hashes(users), _hashes(items), SHARE, seed)
        for part, path, chosen in zip(parts, (train, test), (drawn, ~drawn), strict=True):
            source = folder / f"ml_100k-features-{seed}-{part}.npz"
            _save(source, X[chosen], y[chosen], names)
            like = {} if part == "train" else {"like": str(train)}
            api.ingest("npz", source, str(path), seed=seed, overwrite=True, **like)
            source.unlink()
    return Splits("ml_100k features", train, test)


def _file(suffix: str, folder: Path, data_dir: Path | None) -> Path:
    if data_dir is None:
        raw = folder / "raw" / "ml_100k"
        if not (raw / f"ml-100k{suffix}").exists():
            fetch("ml_100k", raw)
        return raw / f"ml-100k{suffix}"
    packed = data_dir / "ml-100k" / f"ml-100k{suffix}.gz"
    return packed if packed.exists() else data_dir / "ml-100k" / f"ml-100k{suffix}"


def _lines(path: Path) -> list[list[str]]:
    """The fields of all lines but the header."""
    with open_stream(str(path)) as file:
        text = file.read().decode()
    return [line.split("\t") for line in text.splitlines()[1:]]


def _read_ratings(path: Path) -> tuple[list[str], list[str], Float64Array]:
    lines = _lines(path)
    return (
        [line[0] for line in lines],
        [line[1] for line in lines],
        np.array([float(line[2]) for line in lines]),
    )


def _of_user(line: list[str]) -> list[str]:
    _, age, gender, occupation, _ = line
    return [f"age={bisect.bisect_right(AGES, int(age))}", f"gender={gender}", f"occupation={occupation}"]


def _of_item(line: list[str]) -> list[str]:
    return [f"genre={genre}" for genre in line[3].split()]


def _side(path: Path, features_of: Any) -> dict[str, list[str]]:
    """Names of the features of each user or item, itself first."""
    kind = path.name.removesuffix(".gz").rsplit(".", 1)[1]
    return {line[0]: [f"{kind}={line[0]}", *features_of(line)] for line in _lines(path)}


def _groups(ids: list[str], side: dict[str, list[str]]) -> tuple[sp.csr_array, list[str]]:
    """A row per id with a one for each of its features, and the columns' names."""
    names = list(dict.fromkeys(name for found in side.values() for name in found))
    names.sort(
        key=lambda name: name.split("=")[0] not in ("user", "item")
    )  # ids before groups, else as they come
    column = {name: j for j, name in enumerate(names)}
    of_id = {who: [column[name] for name in found] for who, found in side.items()}
    indices = [of_id[who] for who in ids]
    indptr: Int64Array = np.cumsum([0, *map(len, indices)])
    flat = np.concatenate(indices)
    return sp.csr_array((np.ones(len(flat), np.float32), flat, indptr), shape=(len(ids), len(names))), names


def _hashes(ids: list[str]) -> npt.NDArray[np.uint64]:
    """The hash of each name, as ingest sees it."""
    distinct, place = np.unique(ids, return_inverse=True)
    return table_of(distinct.tolist()).tokens().hash[place]


def _save(path: Path, X: sp.csr_array, y: Float64Array, names: list[str]) -> None:
    members = {"indptr": X.indptr, "indices": X.indices, "data": X.data, "shape": np.array(X.shape)}
    np.savez(path, format=np.array(b"csr"), y=y, feature_names=np.array(names), **members)
