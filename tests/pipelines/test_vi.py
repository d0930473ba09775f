"""The experiments with variational inference, at a tenth of a second each."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from click.testing import CliRunner

from oocml import api
from oocml.data.dataset import Dataset
from pipelines import vi, vi_kernels, vi_peers, vi_sets
from pipelines.training import measure
from pipelines.vi_findings import times_sooner
from tests.data.word_counts import docword_text

SETTINGS = {"n_topics": 4, "alpha": 0.1, "eta": 0.01}


def invoke(*arguments):
    return CliRunner().invoke(vi.main, [str(argument) for argument in arguments])


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def small(monkeypatch):
    """Two lengths, two ways, tiny data."""
    monkeypatch.setattr(vi, "LENGTHS", (2, 4))
    monkeypatch.setattr(vi, "MIXTURE_LENGTHS", (1, 3))
    monkeypatch.setattr(vi, "SETS", {"enron": 4})
    monkeypatch.setattr(vi, "ROW_SETS", {"toy": 3})
    monkeypatch.setattr(vi, "TOPIC_WAYS", (*vi.TOPIC_WAYS[:2], vi.Way("odd", {"no_such": 1})))
    monkeypatch.setattr(vi, "MIXTURE_WAYS", vi.MIXTURE_WAYS[:1])
    monkeypatch.setattr(vi_sets, "STAND_INS", {"enron": 150})
    monkeypatch.setattr(vi_sets, "TOY", {"cols": 4, "classes": 3})
    monkeypatch.setattr(vi_sets, "TOY_ROWS", 300)


def planted(folder, rows=150):
    return vi_sets.stand_in("enron", rows, folder, 0)


def test_topics_get_their_lines_and_their_curves(small, tmp_path):
    done = invoke("--only", "lda", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    rows = table(tmp_path / "lda.csv")
    ours = [row for row in rows if row["method"] in ("ESVI, CVB0 start", "ESVI, cold")]
    assert [(row["method"], row["epochs"]) for row in ours] == [
        (way.name, n) for way in vi.TOPIC_WAYS[:2] for n in ("2", "4")
    ]
    assert {row["method"] for row in rows} >= {"sklearn-batch"}
    for row in rows:
        assert -12 < float(row["elbo"]) < float(row["heldout"]) < 0
        assert float(row["seconds"]) > 0
    assert "odd left out: lda has no setting no_such" in done.output
    assert (tmp_path / "lda.png").read_bytes().startswith(b"\x89PNG")


def test_mixtures_get_their_lines_and_their_curves(small, tmp_path):
    done = invoke("--only", "gmm", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    found = table(tmp_path / "gmm.csv")
    assert [row["method"] for row in found] == ["ESVI"] * 2 + [p for p in vi_peers.MIXTURES for _ in range(2)]
    assert float(found[1]["elbo"]) > float(found[0]["elbo"])
    assert (tmp_path / "gmm.png").exists()
    assert invoke("--only", "gmm", "--method", "float32", "--out", tmp_path).exit_code == 0
    assert {row["method"] for row in table(tmp_path / "gmm.csv")} == {"sklearn-em float32"}


def test_topics_of_others_are_scored_as_a_run_would_score_them(tmp_path):
    splits = planted(tmp_path)
    run = measure(splits.train, tmp_path / "run.zarr", SETTINGS, model="lda", epochs=3, schedule="serial").run
    found = vi_peers.score_topics(run.arrays()["topic_word"].compute(), splits, SETTINGS, 0)
    of_train, of_test = (run.evaluate(str(path)) for path in (splits.train, splits.test))
    assert found["elbo"] == pytest.approx(of_train["elbo_per_word"], rel=1e-5)
    assert found["heldout"] == pytest.approx(of_test["heldout_log_likelihood_per_word"], rel=1e-5)
    assert found["npmi"] == pytest.approx(of_test["coherence_npmi"], abs=1e-6)


def test_sooner_is_against_the_end_of_the_longest_training():
    rows = [
        {"method": "a", "epochs": 1, "seconds": 1.0, "elbo": -5.0},
        {"method": "a", "epochs": 2, "seconds": 2.0, "elbo": -3.0},
        {"method": "b", "epochs": 1, "seconds": 4.0, "elbo": -6.0},
        {"method": "b", "epochs": 9, "seconds": 6.0, "elbo": -4.0},
    ]
    assert times_sooner(rows, "a", "b", "elbo") == 3.0
    assert times_sooner(rows, "b", "a", "elbo") == 0.0
    assert times_sooner(rows, "a", "nobody", "elbo") is None
    assert times_sooner(rows, "a", "b", "elbo", near=0.5) == 4.0


def test_documents_got_by_hand_are_split_and_become_rows_of_columns_of_variance_1(tmp_path):
    draw = np.random.default_rng(0)
    docs = [
        {int(j): int(n) for j, n in zip(draw.permutation(12)[:6], draw.integers(1, 5, 6), strict=True)}
        for _ in range(200)
    ]
    folder = tmp_path / "given" / "kos"
    folder.mkdir(parents=True)
    (folder / "docword.kos.txt").write_text(docword_text(docs))
    (folder / "vocab.kos.txt").write_text("\n".join(f"w{j}" for j in range(12)))
    splits = vi_sets.documents("kos", tmp_path / "made", tmp_path / "given", 0)
    sizes = [api.open_dataset(path).n_rows for path in (splits.train, splits.test)]
    assert sum(sizes) == 200
    assert sizes[0] > 150
    assert vi_sets.documents("kos", tmp_path / "made", None, 0) == splits  # made once
    dense = vi_sets.rows("kos", tmp_path / "made", tmp_path / "given", 0)
    values = vi_sets.dense_of(dense.train)
    assert values.shape == (sizes[0], 11)
    np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(values.std(axis=0), 1, atol=1e-5)


def test_a_stand_in_has_fewer_words_too(tmp_path):
    splits = planted(tmp_path)
    assert Dataset.open(str(splits.train)).n_cols == round(28_102 * np.sqrt(150 / 39_861))
    assert Dataset.open(str(splits.test)).n_cols == Dataset.open(str(splits.train)).n_cols


def test_kernel_rates_are_held_against_their_goals(tmp_path, monkeypatch):
    for name, value in (("TOPICS", (128,)), ("DOCUMENTS", 20), ("WORDS", 100), ("WORDS_PER_DOCUMENT", 10)):
        monkeypatch.setattr(vi_kernels, name, value)
    done = invoke("--only", "kernel", "--out", tmp_path, "--repeats", 1)
    assert done.exit_code == 0, done.output
    assert {(row["kernel"], row["z"]) for row in table(tmp_path / "kernel.csv")} == {
        (kernel, z) for kernel in ("esvi", "cvb0") for z in ("float32", "float16")
    }
    assert len(table(tmp_path / "kernel-findings.csv")) == 2


def test_without_data_it_says_what_to_give(tmp_path):
    done = invoke("--only", "lda", "--set", "ap", "--out", tmp_path)
    assert done.exit_code == 1
    assert "ap needs ap/ap.ldac" in done.output
    assert "give --data-dir" in done.output
