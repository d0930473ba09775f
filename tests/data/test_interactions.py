"""Lists of items per user come out as ones of a matrix, however files are cut; ratings with a threshold do too."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oocml.data.dataset import Dataset
from oocml.data.ingest import ingest
from oocml.data.interactions import InteractionsReader
from oocml.data.split import ingest_split, split_path
from oocml.errors import InputError, UsageError
from tests.data.rating_lines import any_names, plain_names, put, read, stored
from tests.data.sparse_files import COMPRESS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("interactions")


def pairs_of(lists):
    return {(user, item): 1.0 for user, items in lists for item in items}


def lists_of(names):
    return st.lists(st.tuples(names, st.lists(names, max_size=6)), min_size=1, max_size=12)


@given(
    lists=lists_of(plain_names),
    gap=st.sampled_from([" ", "  ", "\t", " \t"]),
    end=st.sampled_from(["\n", " \n", "\r\n", "\n\n"]),
    part_bytes=st.sampled_from([5, 40, 1 << 20]),
    packed=st.sampled_from(list(COMPRESS)),
)
def test_every_item_of_every_line_is_an_interaction(folder, lists, gap, end, part_bytes, packed):
    path = folder / "x"
    path.write_bytes(COMPRESS[packed]("".join(gap.join([u, *items]) + end for u, items in lists).encode()))
    assert read([path], reader=InteractionsReader, part_bytes=part_bytes) == pairs_of(lists)


@given(lists=lists_of(any_names.filter(lambda name: "," not in name)))
def test_names_may_hold_anything_but_the_separator(folder, lists):
    path = folder / "y"
    path.write_text("\n".join(",".join([u, *items]) for u, items in lists))
    assert read([path], reader=InteractionsReader, sep=",") == pairs_of(lists)


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [("1,2\n,3\n", 2, "the user is empty"), ("1,2,\n", 1, "the item is empty"), ("\n1,,2\n", 2, "the item")],
)
def test_the_first_bad_line_is_named_and_leaves_nothing(tmp_path, text, line, reason):
    (tmp_path / "x.txt").write_text(text)
    with pytest.raises(InputError, match=rf"x\.txt line {line}: {reason}"):
        ingest("interactions", tmp_path / "x.txt", tmp_path / "x.zarr", sep=",")
    assert [path.name for path in tmp_path.iterdir()] == ["x.txt"]


def test_bad_lines_can_be_skipped_whole(tmp_path):
    (tmp_path / "x.txt").write_text("1,2,3\n4,5,,6\n7,8\n")
    info = ingest("interactions", tmp_path / "x.txt", tmp_path / "x.zarr", sep=",", max_bad=1)
    assert stored(tmp_path / "x.zarr") == pairs_of([("1", "23"), ("7", "8")])
    assert info["bad_lines"] == 1


def test_files_share_their_users_and_items_and_repeats_count_once(tmp_path):
    (tmp_path / "a.txt").write_text("0 10 11\n1 11\n2\n")
    (tmp_path / "b.txt").write_text("1 10 11\n0 12\n")
    (tmp_path / "c.txt").write_text("1 12 99\n5 10\n")
    sources = [tmp_path / "a.txt", tmp_path / "b.txt"]
    info = ingest("interactions", sources, tmp_path / "train.zarr")
    expected = pairs_of([("0", ["10", "11", "12"]), ("1", ["11", "10"])])
    assert stored(tmp_path / "train.zarr") == expected
    assert info["duplicates"] == 1
    info = ingest("interactions", tmp_path / "c.txt", tmp_path / "test.zarr", like=tmp_path / "train.zarr")
    train, test = (Dataset.open(tmp_path / name) for name in ("train.zarr", "test.zarr"))
    assert list(test.feature_names) == list(train.feature_names)
    assert stored(tmp_path / "test.zarr") == pairs_of([("1", ["12"]), ("5", ["10"])])
    assert (info["n_unseen_users"], info["n_dropped_of_unseen_items"]) == (1, 1)


def test_a_split_deals_every_interaction_to_one_part(tmp_path):
    lists = [(f"u{i}", [f"i{j}" for j in np.random.default_rng(i).choice(50, 20, False)]) for i in range(40)]
    (tmp_path / "x.txt").write_text("".join(" ".join([u, *items]) + "\n" for u, items in lists))
    ingest_split("interactions", tmp_path / "x.txt", tmp_path / "x.zarr", split=0.8)
    train, test = stored(tmp_path / "x.zarr"), stored(split_path(tmp_path / "x.zarr"))
    assert not train.keys() & test.keys()
    assert train | test == pairs_of(lists)
    assert 0.7 < len(train) / 800 < 0.9


def test_a_threshold_keeps_ratings_as_ones_and_holds_for_test_data(tmp_path):
    ratings = [("a", "x", 5), ("a", "y", 3), ("b", "x", 4), ("c", "z", 1), ("b", "y", 3.5)]
    put(tmp_path / "train.csv", ratings)
    put(tmp_path / "test.csv", [("a", "x", 3), ("b", "x", 5)])
    ingest("ratings", tmp_path / "train.csv", tmp_path / "train.zarr", threshold=3.5)
    assert stored(tmp_path / "train.zarr") == {("a", "x"): 1, ("b", "x"): 1, ("b", "y"): 1}
    ingest("ratings", tmp_path / "test.csv", tmp_path / "test.zarr", like=tmp_path / "train.zarr")
    assert stored(tmp_path / "test.zarr") == {("b", "x"): 1}
    with pytest.raises(UsageError, match="threshold='high' is not a number"):
        ingest("ratings", tmp_path / "train.csv", tmp_path / "y.zarr", threshold="high")


def test_gowalla(shared_data, tmp_path):
    sources = [shared_data(f"gowalla/{part}.txt.gz") for part in ("train", "valid")]
    ingest("interactions", sources, tmp_path / "train.zarr")
    test = tmp_path / "test.zarr"
    ingest("interactions", shared_data("gowalla/test.txt.gz"), test, like=tmp_path / "train.zarr")
    data = Dataset.open(tmp_path / "train.zarr")
    assert (data.n_rows, data.n_cols, data.nnz) == (29858, 40981, 719081 + 91047)
    assert Dataset.open(test).nnz == 217242
