"""Sets of interactions: users and the items that they took, with a test part of the same users."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from oocml import api
from oocml.data.dataset import Dataset
from oocml.data.split import split_path
from oocml.errors import OocmlError, UsageError
from oocml.types import Csr, Int64Array

from . import movielens
from .bench_options import say
from .datasets import Splits, is_there, once

PANEL_BYTES = {"ml_100k": 2**15, "lastfm_2k": 2**16, "gowalla": 2**20, "planted": 2**20}
"""Small ones, so that there are row blocks to schedule."""
LASTFM_SHARE = 0.8
PLANTED_USERS, PLANTED_ITEMS, PLANTED_EACH = 12_000, 4000, 47
"""Shaped like the Million Song taste profiles: as many items per user, and a third as many items as users."""
PLANTED_RANK = 8
HELD_OUT = 0.2
NOISE = 0.2
USERS_AT_ONCE = 500


def find_sets(names: Iterable[str], folder: Path, data_dir: Path | None, seed: int) -> Iterator[Splits]:
    """What can be had of the sets."""
    for name in names:
        if name not in SETS:
            raise UsageError(f"no set {name!r}; there are {', '.join(SETS)}")
        try:
            yield SETS[name](folder, data_dir, seed)
        except OocmlError as error:
            say(f"{name} left out: {error}")


def ml_100k(folder: Path, data_dir: Path | None, seed: int) -> Splits:
    """Every rating is a choice; nine in ten are to train on."""
    return movielens.ratings(folder, data_dir, seed, PANEL_BYTES["ml_100k"])


def lastfm_2k(folder: Path, data_dir: Path | None, seed: int) -> Splits:
    """Artists that users listened to; four in five to train on. Held-out artists that nobody else has are dropped."""
    source = given(data_dir, "lastfm-2k", "user_artists.dat")
    train = folder / f"lastfm_2k-{seed}.zarr"
    test = Path(split_path(train))
    if not (is_there(train) and is_there(test)):
        folder.mkdir(parents=True, exist_ok=True)
        options = {"seed": seed, "panel_bytes": PANEL_BYTES["lastfm_2k"], "overwrite": True}
        api.ingest("ratings", source, str(train), split=LASTFM_SHARE, **options)
    return Splits("lastfm_2k", train, test)


def gowalla(folder: Path, data_dir: Path | None, seed: int) -> Splits:
    """Places that users checked in at, as split by its authors: training and validation files to train on."""
    del seed
    sources = [str(given(data_dir, "gowalla", f"{part}.txt")) for part in ("train", "valid")]
    return ingested("gowalla", folder, sources, given(data_dir, "gowalla", "test.txt"))


def planted(folder: Path, data_dir: Path | None, seed: int) -> Splits:
    """A stand-in for the Million Song taste profiles: choices by factors and popularity that were planted."""
    del data_dir
    name = f"planted-{seed}-{PLANTED_USERS}x{PLANTED_ITEMS}x{PLANTED_EACH}"
    train, test = (folder / f"{name}-{part}.txt" for part in ("train", "test"))
    if not test.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_planted(train, test, seed)
    return ingested(name, folder, [str(train)], test)._replace(name="planted")


SETS: dict[str, Callable[[Path, Path | None, int], Splits]] = {
    "ml_100k": ml_100k,
    "lastfm_2k": lastfm_2k,
    "gowalla": gowalla,
    "planted": planted,
}


def given(data_dir: Path | None, folder: str, name: str) -> Path:
    """A file that was got by hand, plain or compressed."""
    found = [] if data_dir is None else sorted((data_dir / folder).glob(f"{name}*"))
    if not found:
        raise UsageError(f"{folder} has to be got by hand: give --data-dir with {folder}/{name}")
    return found[0]


def ingested(name: str, folder: Path, sources: Sequence[str], test_source: Path) -> Splits:
    train, test = (folder / f"{name}-{part}.zarr" for part in ("train", "test"))
    size = PANEL_BYTES.get(name.split("-")[0], 2**18)
    once(train, lambda: api.ingest("interactions", sources, str(train), panel_bytes=size, overwrite=True))
    options = {"like": str(train), "overwrite": True}
    once(test, lambda: api.ingest("interactions", str(test_source), str(test), **options))
    return Splits(name, train, test)


def write_planted(train: Path, test: Path, seed: int) -> None:
    """Each user takes the items with the largest scores plus Gumbel noise: draws without replacement, by softmax."""
    rng = np.random.default_rng(seed)
    popularity = rng.normal(scale=1.5, size=PLANTED_ITEMS)
    V = rng.normal(size=(PLANTED_ITEMS, PLANTED_RANK)) * 2 / np.sqrt(PLANTED_RANK)
    with train.open("w") as kept, test.open("w") as held_out:
        for lo in range(0, PLANTED_USERS, USERS_AT_ONCE):
            n = min(USERS_AT_ONCE, PLANTED_USERS - lo)
            S = rng.normal(size=(n, PLANTED_RANK)) @ V.T + popularity
            S += rng.gumbel(size=S.shape)
            for user, chosen in enumerate(np.argpartition(-S, PLANTED_EACH, axis=1)[:, :PLANTED_EACH], lo):
                out = rng.random(PLANTED_EACH) < HELD_OUT
                kept.write(line_of(str(user), chosen[~out].astype(str)))
                held_out.write(line_of(str(user), chosen[out].astype(str)))


def line_of(user: str, items: Iterable[str]) -> str:
    return "\t".join([user, *items]) + "\n"


def noisy(splits: Splits, folder: Path, seed: int) -> Splits:
    """The set with a fifth as many random pairs again to train on: none of the training's or the test's."""
    assert splits.test is not None
    name = f"{splits.train.stem}-noise-{seed}"
    kept, asked = in_memory(splits.train), in_memory(splits.test)
    users, items = names_of(splits.train)
    known = set(keys_of(kept, len(items)).tolist()) | set(keys_of(asked, len(items)).tolist())
    drawn = np.random.default_rng(seed).integers(0, len(users) * len(items), 4 * len(kept.data) + 100)
    fresh = [key for key in dict.fromkeys(drawn.tolist()) if key not in known]
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}-{part}.txt" for part in ("train", "test")]
    more = np.array(fresh[: int(NOISE * len(kept.data))], np.int64)
    write_pairs(paths[0], np.concatenate([keys_of(kept, len(items)), more]), users, items)
    asked_users, _ = names_of(splits.test)  # the training's come first
    write_pairs(paths[1], keys_of(asked, len(items)), asked_users, items)
    return ingested(name, folder, [str(paths[0])], paths[1])._replace(name=f"{splits.name} + noise")


def write_pairs(path: Path, keys: Int64Array, users: Sequence[str], items: Sequence[str]) -> None:
    with path.open("w") as file:
        for key in np.sort(keys).tolist():
            file.write(line_of(users[key // len(items)], [items[key % len(items)]]))


def keys_of(X: Csr, n_items: int) -> Int64Array:
    return np.repeat(np.arange(len(X.indptr) - 1), np.diff(X.indptr)) * n_items + X.indices


def names_of(path: Path) -> tuple[list[str], list[str]]:
    dataset = Dataset.open(path)
    return list(dataset.row_names), list(dataset.feature_names)


def in_memory(path: Path) -> Csr:
    """The entries of a dataset, its rows in the order of their numbers; rows that a training set lacks come last."""
    dataset = Dataset.open(path)
    panels = [dataset.read_panel(p) for p in range(dataset.n_panels)]
    rows = np.concatenate([np.repeat(p.row_ids, np.diff(p.X.indptr)) for p in panels])
    columns = np.concatenate([p.X.indices for p in panels])
    order = np.lexsort((columns, rows))
    indptr = np.searchsorted(rows[order], np.arange(dataset.n_rows + 1)).astype(np.int64)
    return Csr(indptr, columns[order], np.concatenate([p.X.data for p in panels])[order])
