"""Items for users from the command line: lists of items in, metrics and rankings out."""

import numpy as np
import pytest

from tests.models.interests import planted

SIZES = ["--schedule", "serial", "--set", "n_factors=6", "--set", "n_negatives=64", "--epochs", 5]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, run_cli):
    here = tmp_path_factory.mktemp("interactions")
    for name, liked in zip(("train", "test"), planted(), strict=True):
        lines = (" ".join([f"u{i}", *(f"i{j}" for j in np.flatnonzero(row))]) for i, row in enumerate(liked))
        (here / f"{name}.txt").write_text("\n".join(lines) + "\n")
    commands = (
        ["ingest", "interactions", here / "train.txt", here / "train.zarr"],
        ["ingest", "interactions", here / "test.txt", here / "test.zarr", "--like", here / "train.zarr"],
        ["train", "robirank", here / "train.zarr", here / "run.zarr", *SIZES],
    )
    for command in commands:
        done = run_cli(*command)
        assert done.code == 0, done.err
    return here


def test_metrics_are_told(folder, run_cli):
    told = run_cli("evaluate", folder / "run.zarr", folder / "test.zarr", "--json").json
    assert told["auc"] > 0.65
    assert 0 < told["ndcg_at_10"] <= 1
    assert {"precision_at_1", "precision_at_10", "recall_at_20", "map", "objective"} <= set(told)


def test_rankings_are_lines_of_users_and_items_by_name(folder, run_cli):
    done = run_cli("predict", folder / "run.zarr", folder / "train.zarr", folder / "best.txt", "--top", 4)
    assert done.code == 0, done.err
    lines = [line.split() for line in (folder / "best.txt").read_text().splitlines()]
    liked, _ = planted()
    assert len(lines) == 4 * 80
    assert not any(liked[int(user[1:]), int(item[1:])] for user, item, _ in lines)


def test_settings_that_contradict_one_another_are_refused_in_one_line(folder, run_cli):
    done = run_cli("train", "robirank", folder / "train.zarr", folder / "x.zarr", *SIZES, "--set", "rho=2")
    assert done.code == 2
    assert "rho=2 belongs to surrogate=logistic" in done.err
    assert not (folder / "x.zarr").exists()


def test_ratings_become_interactions_by_a_threshold(tmp_path, run_cli):
    (tmp_path / "x.csv").write_text("user,item,rating\na,x,5\na,y,2\nb,y,4\n")
    done = run_cli("ingest", "ratings", tmp_path / "x.csv", tmp_path / "x.zarr", "--threshold", 4, "--json")
    assert done.code == 0, done.err
    assert (done.json["n_rows"], done.json["n_cols"], done.json["nnz"]) == (2, 2, 2)


def test_ratings_given_as_interactions_are_noticed(tmp_path, run_cli):
    lines = [f"{n % 7} {n} {1 + n % 5}" for n in range(60)]
    (tmp_path / "x.txt").write_text("\n".join(lines) + "\n")
    done = run_cli("ingest", "interactions", tmp_path / "x.txt", tmp_path / "x.zarr", "--json")
    assert done.code == 0, done.err
    assert done.err.count("note: ") == 1
    assert "x.txt seems to have a user, an item and a value in every line" in done.err
