"""Files of ratings given as interactions are told from lists of items, which vary."""

import gzip

import numpy as np
import pytest

from oocml.data.ingest import ingest
from oocml.data.interactions_look import warning_of
from oocml.data.word_list import read_words
from oocml.errors import InputError

USERS, ITEMS = np.random.default_rng(0).integers(0, (50, 400), (60, 2)).T


def told(tmp_path, lines, name="x.txt", sep=None):
    text = "\n".join(lines).encode() + b"\n"
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    return warning_of(str(tmp_path / name), sep)


def lists(rng, lengths):
    return [" ".join(map(str, [n, *rng.integers(0, 400, length)])) for n, length in enumerate(lengths)]


@pytest.mark.parametrize(
    "lines",
    [
        [f"{u}\t{i}\t{1 + (u + i) % 5}" for u, i in zip(USERS, ITEMS, strict=True)],
        [f"{u}\t{i}\t{1 + (u + i) % 5}\t8812509{i}" for u, i in zip(USERS, ITEMS, strict=True)],
        [f"{u} {i} {(u + i) / 7:.2f}" for u, i in zip(USERS, ITEMS, strict=True)],
        [f"u{n // 20} i{i} {100 * n + 7}" for n, i in enumerate(ITEMS)],
    ],
    ids=["stars", "stars and times", "fractions", "counts by user"],
)
@pytest.mark.parametrize("name", ["x.txt", "x.txt.gz"])
def test_ratings_are_noticed(tmp_path, lines, name):
    found = told(tmp_path, lines, name)
    assert "a user, an item and a value in every line" in found
    assert "`oocml ingest ratings`" in found


def test_a_header_is_noticed(tmp_path):
    lines = lists(np.random.default_rng(1), [2, 5, 3, 4, 1, 6, 2])
    assert told(tmp_path, lines) is None
    assert "'userID artistID weight', which seems to be a header" in told(
        tmp_path, ["userID artistID weight", *lines]
    )


def test_ratings_between_commas_are_noticed(tmp_path):
    lines = [f"{u},{i},{i % 3}" for u, i in zip(USERS, ITEMS, strict=True)]
    assert told(tmp_path, lines, sep=",") is not None


@pytest.mark.parametrize("seed", range(20))
def test_lists_of_items_raise_no_alarm(tmp_path, seed):
    rng = np.random.default_rng(seed)
    assert told(tmp_path, lists(rng, rng.integers(1, 6, 60))) is None
    assert told(tmp_path, lists(rng, [2] * 60)) is None  # two items each
    assert told(tmp_path, [f"u{u} i{i}" for u, i in zip(USERS, ITEMS, strict=True)]) is None
    few = [f"{n} {rng.integers(8)} {rng.integers(8)}" for n in range(60)]  # of eight items
    assert told(tmp_path, few) is None


def test_what_cannot_be_read_or_says_little_is_left_to_ingest(tmp_path):
    assert warning_of(str(tmp_path / "absent.txt")) is None
    assert told(tmp_path, ["1 2 3"] * 3) is None
    assert told(tmp_path, []) is None


@pytest.mark.parametrize("spoil", [lambda raw: raw[:-20], lambda raw: raw[:30] + b"\xff" * 40 + raw[70:]])
def test_a_damaged_file_is_refused_in_one_line(tmp_path, spoil):
    path = tmp_path / "x.txt.gz"
    rng = np.random.default_rng(0)
    lines = lists(rng, rng.integers(1, 6, 60))
    path.write_bytes(spoil(gzip.compress("\n".join(lines).encode())))
    assert warning_of(str(path)) is None
    with pytest.raises(InputError, match=r"x\.txt\.gz is (cut short|damaged).*; fetch it again$"):
        ingest("interactions", [str(path)], str(tmp_path / "x.zarr"))
    with pytest.raises(InputError, match=r"x\.txt\.gz is (cut short|damaged).*; fetch it again$"):
        read_words(str(path))
    assert list(tmp_path.iterdir()) == [path]
