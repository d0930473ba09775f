"""Every spec that ships is valid, and a mistake in one is named in one line."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from oocml.data.fetch import fetch
from oocml.data.ingest import ingest
from oocml.data.readers import READERS, make_reader
from oocml.data.specs import FORMATS, TASKS, list_specs, load_spec, parse_spec
from oocml.errors import InputError, UsageError

THESIS = [
    "clef",
    "news20",
    "lshtc1_small",
    "lshtc1_large",
    "odp",
    "youtube8m_video",
    "reddit_full",
    "nips",
    "enron",
    "nytimes",
    "pubmed",
    "umbc_3b",
    "toy",
    "ap_data",
    "td2004",
    "msd",
    "housing",
    "diabetes",
    "ijcnn1",
    "realsim",
]

PLAIN = ("ml-100k.item", "ml-100k.user")
"""Files that are not compressed in the shared folder."""

GOOD = """
name = "x"
title = "X"
task = "classification"
format = "libsvm"
licence = "MIT"
cols = 3
[origin]
name = "nowhere"
[splits.train]
rows = 2
nnz = 5
[source]
kind = "pypi"
project = "p"
version = "1"
filename = "p-1-py3-none-any.whl"
sha256 = "SUM"
[[source.files]]
member = "p/x.svm"
to = "x.svm"
sha256 = "SUM"
[ingest.train]
format = "libsvm"
files = ["x.svm"]
""".replace("SUM", "0" * 64)


def parse(text: str):
    return parse_spec(text, where="x.toml", name="x")


def test_every_row_of_the_thesis_has_a_spec():
    assert set(THESIS) <= set(list_specs())


@pytest.mark.parametrize("name", list_specs())
def test_shipped_spec_is_valid(name: str):
    spec = load_spec(name)
    assert spec.name == name
    assert spec.task in TASKS
    assert all(i.format in FORMATS for i in spec.ingest.values())
    assert spec.note.count("\n") == 0
    if spec.source.kind != "manual":
        assert spec.ingest["train"].files
        assert spec.rows
        assert spec.cols
    for split in spec.splits.values():
        if split.rows and split.nnz and spec.cols:
            assert split.rows <= split.nnz <= split.rows * spec.cols


@pytest.mark.parametrize("name", list_specs())
def test_stand_in_of_every_classification_spec_has_a_shape(name: str):
    spec = load_spec(name)
    if spec.task == "classification":
        assert spec.rows
        assert spec.cols
        assert spec.classes
        assert spec.nnz_per_row
        assert spec.nnz_per_row <= spec.cols


def test_thesis_parameter_sizes_follow_from_the_shapes():
    """The tables give 8 bytes per weight; their sizes are rounded down to what is printed."""
    units = {"KB": 1e3, "MB": 1e6, "GB": 1e9}
    checked = 0
    for name in list_specs():
        spec = load_spec(name)
        if name != "news20" and (printed := spec.thesis.get("parameters")):
            size, unit = printed.split()
            assert abs(8 * spec.cols * spec.classes / units[unit] - float(size)) < 1, name
            checked += 1
    assert checked == 6
    news = load_spec("news20").thesis
    assert 8 * news["cols"] * 20 != pytest.approx(9.79e6, rel=0.01)  # the misprint its note tells of
    assert pytest.approx(9.79e6, rel=0.001) == 8 * 61_188 * 20


@pytest.mark.parametrize(
    ("name", "file", "split"),
    [
        ("clef", "clef/train.svm.gz", "train"),
        ("clef", "clef/test.svm.gz", "test"),
        ("a9a", "a9a/a9a.gz", "train"),
        ("a9a", "a9a/a9a.t.gz", "test"),
        ("news20", "news20/test.svm.gz", "test"),
    ],
)
def test_shape_is_that_of_the_real_file(shared_data: Callable[[str], Path], name: str, file: str, split: str):
    spec = load_spec(name)
    with gzip.open(shared_data(file), "rt") as lines:
        counts = [line.count(":") for line in lines]
    assert (len(counts), sum(counts)) == (spec.splits[split].rows, spec.splits[split].nnz)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('name = "x"', 'name = "y"', "name is 'y'; it must be 'x'"),
        ('task = "classification"', 'task = "guess"', "task is 'guess'; it must be one of"),
        ("cols = 3", 'cols = "3"', "cols must be a whole number, not '3'"),
        ("cols = 3", "cols = true", "cols must be a whole number, not True"),
        ("cols = 3", "cols = 0", "cols must be at least 1, not 0"),
        ("rows = 2", "rows = -2", "splits.train.rows must be at least 1"),
        ("cols = 3", "colls = 3", "colls is not a key of a spec"),
        ("rows = 2", "rwos = 2", "splits.train.rwos is not a key"),
        ('licence = "MIT"', "", "licence is missing"),
        ('licence = "MIT"', 'licence = " "', "licence must not be empty"),
        (
            'files = ["x.svm"]',
            'files = ["y.svm"]',
            "ingest.train reads 'y.svm', which source does not deliver",
        ),
        ('files = ["x.svm"]', "files = []", "ingest.train.files must name at least one file"),
        ('to = "x.svm"', 'to = "../x.svm"', "must be a plain file name"),
        ('version = "1"', "", "source.version is needed"),
        ('sha256 = "000', 'sha256 = "XYZ', "must be 64 lower-case hexadecimal digits"),
        ('member = "p/x.svm"', "", "source.files[0].member is needed"),
        (
            "cols = 3",
            'cols = 3\nunverified = ["classes"]',
            "unverified lists 'classes', which the spec does not",
        ),
        ("cols = 3", "cols =", "not TOML"),
        ("[splits.train]\nrows = 2\nnnz = 5", "[splits]\ntrain = 3", "splits.train must be a table"),
    ],
)
def test_mistake_is_named_in_one_line(old: str, new: str, says: str):
    assert old in GOOD
    with pytest.raises(InputError, match=re.escape(says)) as caught:
        parse(GOOD.replace(old, new, 1))
    assert str(caught.value).startswith("x.toml: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", list_specs())
def test_the_readers_know_the_options_of_every_split(name: str):
    for how in load_spec(name).ingest.values():
        if how.format in READERS:
            make_reader(how.format, how.options)


@pytest.mark.parametrize("name", ["ml_100k", "jester", "lastfm_2k"])
def test_a_real_set_is_ingested_as_its_spec_says(
    shared_data: Callable[[str], Path], tmp_path: Path, name: str
):
    """Offline: the files are put where a fetch would put them, which then has only to verify them."""
    spec = load_spec(name)
    for file in spec.source.files:
        given = shared_data(f"{name.replace('_', '-')}/{file.to}{'' if file.to in PLAIN else '.gz'}")
        content = given.read_bytes()
        (tmp_path / file.to).write_bytes(content if file.to in PLAIN else gzip.decompress(content))
    assert {path.name for path in fetch(name, tmp_path)} == {file.to for file in spec.source.files}
    how = spec.ingest["train"]
    made = ingest(how.format, [tmp_path / file for file in how.files], tmp_path / "x.zarr", **how.options)
    assert (made["n_rows"], made["n_cols"], made["nnz"]) == (spec.rows, spec.cols, spec.nnz)


def test_good_text_is_read():
    spec = parse(GOOD)
    assert (spec.rows, spec.nnz, spec.cols, spec.nnz_per_row) == (2, 5, 3, 2.5)
    assert spec.source.files[0].to == "x.svm"


def test_path_of_a_toml_file_is_a_spec(tmp_path: Path):
    (tmp_path / "x.toml").write_text(GOOD)
    assert load_spec(tmp_path / "x.toml").name == "x"
    with pytest.raises(UsageError, match="no spec file"):
        load_spec(tmp_path / "y.toml")


@pytest.mark.parametrize("name", ["LSHTC1-small", "Reddit-Full"])
def test_name_as_printed_leads_to_ours(name: str):
    with pytest.raises(UsageError, match=f"did you mean {name.lower().replace('-', '_')}"):
        load_spec(name)


@pytest.mark.parametrize("name", ["", "..", "../pyproject", "no_such_set"])
def test_unknown_name_is_refused(name: str):
    with pytest.raises(UsageError, match="'oocml specs' lists them"):
        load_spec(name)


def test_summary_is_plain():
    line = load_spec("reddit_full").summary()
    assert (line["rows"], line["cols"], line["classes"]) == (211_532_359, 1_348_182, 33_225)
    assert line["thesis"] == "Reddit-Full"


def test_entries_are_estimated_where_they_are_not_stated():
    assert load_spec("news20").expected_nnz == 1_569_741
    assert load_spec("reddit_full").expected_nnz == pytest.approx(1.026e10, rel=0.001)
    assert load_spec("toy").expected_nnz is None
    ranked = load_spec("mq2008")
    assert ranked.has_queries
    assert ranked.expected_nnz == 15_211 * 46, "graded rows have every feature"


def test_page_on_data_sets_lists_every_spec():
    page = (Path(__file__).resolve().parents[2] / "docs" / "datasets.md").read_text(encoding="utf-8")
    assert [name for name in list_specs() if f"| `{name}`" not in page] == []
