"""Ratings from the command line: to a dataset, to a split, and to a test set."""

import pytest

from tests.data.rating_lines import put, some_ratings, stored


@pytest.fixture
def source(tmp_path):
    return put(tmp_path / "x.csv", some_ratings(n=200))


def test_a_split_is_told_in_one_object(tmp_path, run_cli, source):
    done = run_cli(
        "ingest", "ratings", source, tmp_path / "x.zarr", "--split", "0.8", "--seed", "2", "--json"
    )
    assert done.code == 0, done.err
    assert done.json["nnz"] + done.json["test_nnz"] == 200
    assert len(stored(done.json["test_path"])) == done.json["test_nnz"]


def test_options_reach_the_reader_and_like_gives_rows(tmp_path, run_cli, source):
    assert run_cli("ingest", "ratings", source, tmp_path / "x.zarr").code == 0
    (tmp_path / "t.txt").write_text("a comment\ni1|u1|5\ni2|nobody|4\nnothing|u2|3\n")
    options = ["--sep", "|", "--header", "1", "--columns", "item,user,value", "--json"]
    done = run_cli(
        "ingest", "ratings", tmp_path / "t.txt", tmp_path / "t.zarr", "--like", tmp_path / "x.zarr", *options
    )
    assert done.json["n_unseen_users"] == done.json["n_dropped_of_unseen_items"] == 1
    assert stored(tmp_path / "t.zarr") == {("u1", "i1"): 5.0, ("nobody", "i2"): 4.0}


def test_a_table_of_ratings(tmp_path, run_cli):
    (tmp_path / "x.csv").write_text("2,1.5,99\n1,99,-3\n")
    done = run_cli(
        "ingest", "ratings-matrix", tmp_path / "x.csv", tmp_path / "x.zarr", "--skip", 1, "--missing", 99
    )
    assert done.code == 0
    assert stored(tmp_path / "x.zarr") == {("1", "1"): 1.5, ("2", "2"): -3.0}


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--split", "1.5"], 2, "--split"),
        (["--keep-order"], 2, "no order to keep"),
        (["--sep", ";"], 4, "is there another separator"),
    ],
)
def test_what_means_nothing_is_one_line(tmp_path, run_cli, source, options, code, says):
    done = run_cli("ingest", "ratings", source, tmp_path / "x.zarr", *options)
    assert (done.code, done.out) == (code, "")
    assert says in done.err and done.err.strip().count("\n") == 0
    assert not list(tmp_path.glob("*.zarr*"))
