"""Matrix factorization from the command line: what is predicted is what is scored, in names."""

import csv

import numpy as np
import pytest

from tests.data.rating_lines import put, some_ratings, stored

SERIAL = ["--schedule", "serial"]


def lines(path):
    with open(path, encoding="utf-8", newline="") as file:
        return [(user, item, float(value)) for user, item, value in csv.reader(file, delimiter="\t")]


def begin(run_cli, source, folder, *train):
    for command in (
        ["ingest", "ratings", source, folder / "train.zarr", "--split", "0.8"],
        ["train", "mf", folder / "train.zarr", folder / "run.zarr", *SERIAL, *train],
    ):
        done = run_cli(*command)
        assert done.code == 0, done.err
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory, run_cli):
    """A training set, the pairs left out of it, and a run."""
    here = tmp_path_factory.mktemp("mf")
    source = put(here / "x.csv", some_ratings(n_users=40, n_items=25, n=500))
    return begin(
        run_cli, source, here, "--epochs", 4, "--set", "n_factors=3", "--row-blocks", 1, "--col-blocks", 3
    )


def assert_scores_are_those_of_the_lines(run_cli, folder, out):
    told = run_cli("evaluate", folder / "run.zarr", folder / "train-test.zarr", "--json").json
    done = run_cli("predict", folder / "run.zarr", folder / "train-test.zarr", out, "--json")
    assert done.code == 0, done.err
    truth, found = stored(folder / "train-test.zarr"), lines(out)
    assert done.json["n_entries"] == len(found) == len(truth)
    errors = np.array([value - truth.pop((user, item)) for user, item, value in found])
    assert not truth
    assert told["rmse"] == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-5)


def assert_rankings_have_unseen_items_only(run_cli, folder, out, top):
    done = run_cli("predict", folder / "run.zarr", folder / "train-test.zarr", out, "--top", top)
    assert done.code == 0, done.err
    seen, items = stored(folder / "train.zarr"), {}
    for user, item, value in lines(out):
        assert (user, item) not in seen
        items.setdefault(user, {})[item] = value
    for scores in items.values():
        assert list(scores.values()) == sorted(scores.values(), reverse=True)
        assert len(scores) == top
    return items


def test_scores_are_those_of_the_predicted_pairs(run_cli, folder, tmp_path):
    assert_scores_are_those_of_the_lines(run_cli, folder, tmp_path / "pairs.tsv")


def test_rankings_have_unseen_items_only(run_cli, folder, tmp_path):
    items = assert_rankings_have_unseen_items_only(run_cli, folder, tmp_path / "best.tsv", 3)
    users = {user for user, _ in stored(folder / "train.zarr") | stored(folder / "train-test.zarr")}
    assert items.keys() == users


def test_pairs_of_other_users_and_items(run_cli, folder, tmp_path):
    known = sorted({item for _, item in stored(folder / "train.zarr")})
    (tmp_path / "new.csv").write_text(f"user,item\nu1,{known[0]}\nnobody,{known[1]}\nu1,nothing\n")
    like = ["--like", folder / "train.zarr"]
    assert run_cli("ingest", "ratings", tmp_path / "new.csv", tmp_path / "new.zarr", *like).code == 0
    assert run_cli("predict", folder / "run.zarr", tmp_path / "new.zarr", tmp_path / "p.tsv").code == 0
    assert [line[:2] for line in lines(tmp_path / "p.tsv")] == [("u1", known[0]), ("nobody", known[1])]


@pytest.mark.long
def test_movielens_from_file_to_predictions(run_cli, shared_data, tmp_path):
    begin(run_cli, shared_data("ml-100k/ml-100k.inter.gz"), tmp_path, "--epochs", 8)
    assert_scores_are_those_of_the_lines(run_cli, tmp_path, tmp_path / "pairs.tsv")
    items = assert_rankings_have_unseen_items_only(run_cli, tmp_path, tmp_path / "best.tsv", 10)
    assert len(items) == 943
