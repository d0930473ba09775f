"""Rows gathered from entries in any order, and test sets that have the rows of their training set."""

import gzip
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oocml.data import gather, ingest_parts, ingest_refusals, ingest_run, writer
from oocml.data.dataset import Dataset
from oocml.data.identity import dataset_sha256
from oocml.data.ingest import BASE_BYTES, WORKER_BYTES, ingest
from oocml.data.readers import EntryBatch
from oocml.data.split import ingest_split, split_path
from oocml.errors import DoesNotFit, InputError, UsageError
from oocml.types import Csr
from tests.data.rating_lines import expected, put, some_ratings, stored
from tests.data.svmlight_text import files_of


class Killed(BaseException):
    """What the injected fault raises; nothing catches it."""


ARGUMENTS = {"workers": 2, "panel_bytes": 600}


def users_of_panels(path):
    """Names of the users of every panel, in stored order."""
    dataset = Dataset.open(path)
    return [
        [dataset.row_names[row] for row in dataset.read_panel(p).row_ids] for p in range(dataset.n_panels)
    ]


@pytest.fixture
def train(tmp_path, small):
    """Ratings of u0 .. u39 and i0 .. i29 as a dataset of several panels."""
    ratings = some_ratings(n_users=40, n=500)
    ingest("ratings", put(tmp_path / "train.csv", ratings), tmp_path / "train.zarr", **ARGUMENTS)
    assert Dataset.open(tmp_path / "train.zarr").n_panels > 5
    return tmp_path / "train.zarr"


# -- datasets ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("suffix", ["csv", "csv.gz"])
def test_a_dataset_holds_the_ratings_and_numbers_names_as_they_come(tmp_path, small, workers, suffix):
    ratings = some_ratings()
    path = put(tmp_path / "x.csv", ratings)
    if suffix == "csv.gz":
        path = tmp_path / "x.csv.gz"
        path.write_bytes(gzip.compress((tmp_path / "x.csv").read_bytes()))
    out = tmp_path / "x.zarr"
    result = ingest("ratings", path, out, workers=workers, panel_bytes=600)
    assert stored(out) == expected(ratings)
    dataset = Dataset.open(out)
    assert dataset.row_names == list(dict.fromkeys(user for user, _, _ in ratings))
    assert dataset.feature_names == list(dict.fromkeys(item for _, item, _ in ratings))
    assert (result["duplicates"], result["label_kind"]) == (0, "none")
    assert (result["n_rows"], result["n_cols"]) == (len(dataset.row_names), len(dataset.feature_names))
    assert dataset.n_panels > 3
    assert dataset.problem(deep=True) is None
    assert dataset.feature_nnz.sum() == len(ratings)  # zeros are ratings too
    assert sorted(dataset.row_ids[:].tolist()) == list(range(dataset.n_rows))


def test_shuffled_lines_make_the_same_rows_in_the_same_order(tmp_path, small):
    ratings = some_ratings()
    shuffled = random.Random(1).sample(ratings, len(ratings))
    a, b = (
        ingest("ratings", put(tmp_path / f"{name}.csv", lines), tmp_path / f"{name}.zarr", **ARGUMENTS)
        for name, lines in (("a", ratings), ("b", shuffled))
    )
    assert stored(a["path"]) == stored(b["path"])
    assert users_of_panels(a["path"]) == users_of_panels(b["path"])


def test_workers_do_not_change_a_byte(tmp_path, small):
    path = put(tmp_path / "x.csv", some_ratings())
    for workers in (1, 3):
        ingest("ratings", path, tmp_path / f"{workers}.zarr", workers=workers, panel_bytes=600)
    assert files_of(tmp_path / "1.zarr") == files_of(tmp_path / "3.zarr")


def test_rows_are_dealt_at_random_and_by_the_seed(tmp_path, small):
    ratings = sorted(some_ratings())
    path = put(tmp_path / "x.csv", ratings)
    orders = []
    for seed in (0, 1):
        ingest("ratings", path, tmp_path / f"{seed}.zarr", seed=seed, **ARGUMENTS)
        orders.append(Dataset.open(tmp_path / f"{seed}.zarr").row_ids[:])
    assert orders[0].tolist() != orders[1].tolist()
    assert all(abs(np.corrcoef(order, np.arange(len(order)))[0, 1]) < 0.5 for order in orders)


def test_the_last_rating_of_a_place_stands(tmp_path, small):
    ratings = some_ratings()
    again = [(user, item, value + 1) for user, item, value in random.Random(2).sample(ratings, 150)]
    several = [put(tmp_path / "1.csv", ratings), put(tmp_path / "2.csv", [*again, ("u0", "i0", 7.0)] * 2)]
    result = ingest("ratings", several, tmp_path / "x.zarr", **ARGUMENTS)
    wanted = expected([*ratings, *again, ("u0", "i0", 7.0)])
    assert stored(tmp_path / "x.zarr") == wanted
    assert result["duplicates"] == len(ratings) + 2 * 151 - len(wanted)


@given(
    rows=st.lists(st.integers(0, 6), min_size=1, max_size=40),
    clash=st.booleans(),
    seed=st.integers(0, 3),
    cut=st.integers(0, 40),
)
def test_fragments_hold_every_entry_in_order_even_if_names_share_a_hash(rows, clash, seed, cut):
    hashes = np.array([5, 6, 7, 8, 9, 10, 11], np.uint64)
    if clash:
        hashes[:4] = 5
    row = np.array(rows, np.int32)
    entries = EntryBatch(
        row, hashes[row], np.arange(len(row), dtype=np.int32), np.arange(len(row), dtype=np.float32)
    )
    batches = [EntryBatch(*(a[:cut] for a in entries)), EntryBatch(*(a[cut:] for a in entries))]
    got = gather.rows_of_entries(batches, seed)
    assert isinstance(got.X, Csr)
    assert sorted(set(rows)) == sorted(got.row.tolist())
    assert (got.key[1:] >= got.key[:-1]).all()
    for i, number in enumerate(got.row.tolist()):
        columns = got.X.indices[got.X.indptr[i] : got.X.indptr[i + 1]]
        assert columns.tolist() == [e for e, r in enumerate(rows) if r == number]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"keep_order": True}, "no order to keep"),
        ({"n_cols": 99}, "leave out --n-cols"),
        ({"transform": "tfidf"}, "tfidf counts rows"),
    ],
)
def test_options_that_mean_nothing_for_ratings_are_refused(tmp_path, options, says):
    path = put(tmp_path / "x.csv", some_ratings())
    with pytest.raises(UsageError, match=says):
        ingest("ratings", path, tmp_path / "x.zarr", **options)
    assert [p.name for p in tmp_path.iterdir()] == ["x.csv"]


def test_names_that_do_not_fit_are_refused(tmp_path, small, monkeypatch):
    monkeypatch.setattr(ingest_refusals, "NAME_BYTES", 10**8)
    path = put(tmp_path / "x.csv", some_ratings())
    with pytest.raises(
        DoesNotFit, match=r"60 users and 30 items, whose names need \d+ MiB of memory, 500 MiB given"
    ):
        ingest("ratings", path, tmp_path / "x.zarr", memory="500MiB")


def test_a_threshold_that_nothing_reaches_is_named(tmp_path, small):
    path = put(tmp_path / "x.csv", [("a", "x", 1.0), ("a", "y", 5.0)])
    with pytest.raises(InputError, match=r"no ratings of at least 9 \(--threshold\); give a lower"):
        ingest("ratings", path, tmp_path / "x.zarr", threshold=9)
    assert [p.name for p in tmp_path.iterdir()] == ["x.csv"]


def test_a_bad_line_leaves_nothing_behind(tmp_path, small):
    path = put(tmp_path / "x.csv", some_ratings())
    path.write_text(path.read_text() + "u1,i1\n")
    with pytest.raises(InputError, match=r"x.csv line 402: there are 2 fields, not 3 as in the first line"):
        ingest("ratings", path, tmp_path / "x.zarr", **ARGUMENTS)
    assert [p.name for p in tmp_path.iterdir()] == ["x.csv"]


def test_binary_ratings(tmp_path, small):
    path = put(tmp_path / "x.csv", [("a", "x", 3.0), ("a", "y", 0.0), ("b", "x", -1.0)])
    ingest("ratings", path, tmp_path / "x.zarr", transform="binary")
    assert stored(tmp_path / "x.zarr") == {("a", "x"): 1.0, ("a", "y"): 0.0, ("b", "x"): 1.0}


# -- test sets ---------------------------------------------------------------------------------------------


def test_a_test_set_has_the_panels_of_its_training_set(tmp_path, train):
    ratings = [r for r in some_ratings(n_users=70, n_items=45, n=300, seed=5) if r[0] not in ("u3", "u7")]
    path = put(tmp_path / "test.csv", [("u1", "i1", 1.0), *ratings, ("u1", "i1", 2.0)])
    result = ingest("ratings", path, tmp_path / "test.zarr", like=train, **ARGUMENTS)
    ours, theirs = Dataset.open(tmp_path / "test.zarr"), Dataset.open(train)
    n = theirs.n_panels
    assert ours.panel_bounds[: n + 1].tolist() == theirs.panel_bounds.tolist()
    assert ours.row_ids[: theirs.n_rows].tolist() == theirs.row_ids[:].tolist()
    assert users_of_panels(tmp_path / "test.zarr")[:n] == users_of_panels(train)
    assert ours.feature_names == theirs.feature_names
    known = [r for r in ratings if r[1] in theirs.feature_names]
    assert stored(tmp_path / "test.zarr") == expected([*known, ("u1", "i1", 2.0)])
    assert result["n_dropped_of_unseen_items"] == len(ratings) - len(known) > 0
    assert result["duplicates"] == 1
    unseen = list(dict.fromkeys(user for user, _, _ in ratings if user not in theirs.row_names))
    assert ours.row_names == [*theirs.row_names, *unseen]
    assert result["n_unseen_users"] == len(unseen) == ours.n_rows - theirs.n_rows
    assert sorted(ours.row_ids[theirs.n_rows :].tolist()) == list(range(theirs.n_rows, ours.n_rows))
    assert ours.attrs["rows_like"] == dataset_sha256(theirs)
    assert ours.problem(deep=True) is None
    assert ours.n_panels > n
    # rows without a rating are there, and empty
    assert any((np.diff(ours.read_panel(p).X.indptr) == 0).any() for p in range(n))


@pytest.mark.parametrize("seed", [0, 3])
def test_the_training_set_itself_comes_back_panel_by_panel(tmp_path, small, seed):
    path = put(tmp_path / "x.csv", some_ratings())
    ingest("ratings", path, tmp_path / "a.zarr", seed=seed, **ARGUMENTS)
    ingest("ratings", path, tmp_path / "b.zarr", like=tmp_path / "a.zarr", workers=1, panel_bytes=100, seed=9)
    a, b = Dataset.open(tmp_path / "a.zarr"), Dataset.open(tmp_path / "b.zarr")
    assert a.n_panels == b.n_panels
    for p in range(a.n_panels):
        first, second = a.read_panel(p), b.read_panel(p)
        for x, y in zip((*first.X, first.row_ids), (*second.X, second.row_ids), strict=True):
            np.testing.assert_array_equal(x, y)


def test_only_unseen_users_and_only_unseen_items(tmp_path, train):
    path = put(tmp_path / "x.csv", [("new", "i1", 1.0), ("newer", "none", 2.0), ("u1", "none", 3.0)])
    result = ingest("ratings", path, tmp_path / "x.zarr", like=train, **ARGUMENTS)
    dataset = Dataset.open(tmp_path / "x.zarr")
    assert stored(tmp_path / "x.zarr") == {("new", "i1"): 1.0}
    assert (result["n_unseen_users"], result["n_dropped_of_unseen_items"]) == (2, 2)
    assert users_of_panels(tmp_path / "x.zarr")[Dataset.open(train).n_panels :] in (
        [["new", "newer"]],
        [["newer", "new"]],
        [["new"], ["newer"]],
        [["newer"], ["new"]],
    )
    assert dataset.problem(deep=True) is None


def test_training_sets_that_have_no_such_rows_are_refused(tmp_path, train):
    ratings = put(tmp_path / "x.csv", some_ratings())
    (tmp_path / "x.svm").write_text("1 1:2\n0 2:3\n")
    ingest("libsvm", tmp_path / "x.svm", tmp_path / "svm.zarr")
    ingest("ratings", ratings, tmp_path / "test.zarr", like=train, **ARGUMENTS)
    for like, says in (("svm.zarr", "is not made of ratings"), ("test.zarr", "is test data of another set")):
        with pytest.raises(InputError, match=says):
            ingest("ratings", ratings, tmp_path / "y.zarr", like=tmp_path / like, **ARGUMENTS)
    assert not list(tmp_path.glob("y.zarr*"))


@pytest.mark.parametrize("mask", [0, 0b11 << 62])
def test_names_that_share_a_key_are_kept_apart(tmp_path, small, monkeypatch, mask):
    """With keys of two bits, or of none, names clash, also across the bounds of panels."""
    real = gather.name_keys
    monkeypatch.setattr(gather, "name_keys", lambda h, seed: real(h, seed=seed) & np.uint64(mask))
    train, test = some_ratings(n_users=30, n=300), some_ratings(n_users=45, n=200, seed=1)
    ingest("ratings", put(tmp_path / "a.csv", train), tmp_path / "a.zarr", **ARGUMENTS)
    ingest(
        "ratings", put(tmp_path / "b.csv", test), tmp_path / "b.zarr", like=tmp_path / "a.zarr", **ARGUMENTS
    )
    assert stored(tmp_path / "a.zarr") == expected(train)
    n = Dataset.open(tmp_path / "a.zarr").n_panels
    assert n > 4
    assert users_of_panels(tmp_path / "b.zarr")[:n] == users_of_panels(tmp_path / "a.zarr")
    assert stored(tmp_path / "b.zarr") == expected(test)


# -- splits ------------------------------------------------------------------------------------------------


def test_a_split_makes_a_training_set_and_its_test_set(tmp_path, small):
    ratings = some_ratings()
    path, out = put(tmp_path / "x.csv", ratings), tmp_path / "x.zarr"
    result = ingest_split("ratings", path, out, split=0.8, seed=4, **ARGUMENTS)
    test = tmp_path / "x-test.zarr"
    assert split_path(out) == result["test_path"] == str(test)
    assert stored(out) | stored(test) == expected(ratings)
    assert result["nnz"] + result["test_nnz"] == len(ratings)
    assert 0.74 < result["nnz"] / len(ratings) < 0.86
    n = Dataset.open(out).n_panels
    assert users_of_panels(test)[:n] == users_of_panels(out)
    shuffled = put(tmp_path / "y.csv", random.Random(0).sample(ratings, len(ratings)))
    ingest_split("ratings", shuffled, tmp_path / "y.zarr", split=0.8, seed=4, **ARGUMENTS)
    assert stored(tmp_path / "y.zarr") == stored(out)


def test_a_split_that_was_stopped_goes_on(tmp_path, small):
    path, out = put(tmp_path / "x.csv", some_ratings()), tmp_path / "x.zarr"
    ingest_split("ratings", path, tmp_path / "whole.zarr", split=0.8, **ARGUMENTS)

    def killed(*args, **kwargs):
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        real = ingest_run.plan_gathering
        patch.setattr(
            ingest_run,
            "plan_gathering",
            lambda job, rows, like, spills: real(job, rows, like, spills) if like is None else killed(),
        )
        with pytest.raises(Killed):
            ingest_split("ratings", path, out, split=0.8, **ARGUMENTS)
    assert out.exists()
    assert not (tmp_path / "x-test.zarr").exists()
    for other in ({"split": 0.7}, {"split": 0.8, "seed": 1}):
        with pytest.raises(UsageError, match=r"x\.zarr exists"):
            ingest_split("ratings", path, out, **{**ARGUMENTS, **other})
    ingest_split("ratings", path, out, split=0.8, **ARGUMENTS)
    assert files_of(out) == files_of(tmp_path / "whole.zarr")
    assert files_of(tmp_path / "x-test.zarr") == files_of(tmp_path / "whole-test.zarr")
    with pytest.raises(UsageError, match="x-test.zarr exists"):
        ingest_split("ratings", path, out, split=0.8, **ARGUMENTS)


def test_a_split_without_test_ratings_or_of_other_data_leaves_nothing(tmp_path, small):
    path = put(tmp_path / "x.csv", [("a", "x", 1.0)])
    with pytest.raises(InputError, match="has no"):
        ingest_split("ratings", path, tmp_path / "x.zarr", split=0.99)
    with pytest.raises(UsageError, match="text can't be split"):
        ingest_split("text", path, tmp_path / "x.zarr", split=0.5)
    with pytest.raises(UsageError, match="is none"):
        ingest_split("ratings", path, tmp_path / "x.zarr", split=1.5)
    assert [p.name for p in tmp_path.iterdir()] == ["x.csv"]


# -- interrupted -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_like", [False, True])
def test_stopped_at_any_step_it_goes_on_to_the_same_bytes(tmp_path, train, with_like):
    path = put(tmp_path / "x.csv", some_ratings(n_users=70, seed=3))
    arguments = {"workers": 1, "panel_bytes": 600, "like": train if with_like else None}
    wanted = tmp_path / "whole.zarr"
    ingest("ratings", path, wanted, **arguments)
    n_stops = 0
    for n in range(0, 100, 13):
        out, calls = tmp_path / f"{n}.zarr", [0]

        def count(function, n=n, calls=calls):
            def counted(*args, **kwargs):
                calls[0] += 1
                if calls[0] > n:
                    raise Killed
                return function(*args, **kwargs)

            return counted

        with pytest.MonkeyPatch.context() as patch:
            for where, name in (
                (ingest_parts, "write_spill"),
                (ingest_parts, "save"),
                (gather, "save"),
                (gather, "number_fragments"),
                (writer.DatasetWriter, "write_panel"),
                (writer, "write_names"),
            ):
                patch.setattr(where, name, count(getattr(where, name)))
            try:
                ingest("ratings", path, out, **arguments)
                break
            except Killed:
                n_stops += 1
        assert not out.exists()
        ingest("ratings", path, out, **arguments)
        assert files_of(out) == files_of(wanted)
    assert n_stops >= 3


def test_real_ratings_are_those_of_the_file(tmp_path, shared_data):
    path = shared_data("ml-100k/ml-100k.inter.gz")
    result = ingest("ratings", path, tmp_path / "x.zarr")
    assert (result["n_rows"], result["n_cols"], result["nnz"]) == (943, 1682, 100_000)
    with gzip.open(path, "rt") as file:
        next(file)
        lines = [line.split("\t") for line in file]
    assert stored(tmp_path / "x.zarr") == {(user, item): float(value) for user, item, value, _ in lines}


PEAK = """
import resource, sys
from oocml.data.ingest import ingest
ingest("ratings", sys.argv[1], sys.argv[2], workers=2)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.long
def test_memory_is_that_of_the_names_whatever_the_size_of_the_file(tmp_path):
    """200 MB of ratings in no order, two workers."""
    draw = np.random.default_rng(0)
    n_users, n_items = 300_000, 30_000
    with open(tmp_path / "x.csv", "wb") as file:
        for _ in range(30):
            users, items = draw.integers(0, n_users, 500_000), draw.integers(0, n_items, 500_000)
            file.write(
                b"".join(b"%d,%d,3\n" % pair for pair in zip(users.tolist(), items.tolist(), strict=True))
            )
    command = [sys.executable, "-c", PEAK, str(tmp_path / "x.csv"), str(tmp_path / "x.zarr")]
    run = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    peak = int(run.stdout) * (1 if sys.platform == "darwin" else 1024)
    assert peak < BASE_BYTES + 2 * WORKER_BYTES + ingest_refusals.NAME_BYTES * (n_users + n_items)
