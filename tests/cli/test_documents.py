"""Topics from the command line: documents in, held-out ones kept apart, and topics shown by their words."""

import numpy as np
import pytest

from tests.data.word_counts import docword_text

WORDS = [f"sea{j}" for j in range(6)] + [f"hill{j}" for j in range(6)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, run_cli):
    """Documents of two topics, a run, and what the commands said."""
    here = tmp_path_factory.mktemp("documents")
    draw = np.random.default_rng(0)
    docs = []
    for i in range(120):
        words, counts = np.unique(draw.integers(6, size=25) + 6 * (i % 2), return_counts=True)
        docs.append(dict(zip(words.tolist(), counts.tolist(), strict=True)))
    (here / "x.txt").write_text(docword_text(docs))
    (here / "v.txt").write_text("\n".join(WORDS))
    made, run = here / "x.zarr", here / "run.zarr"
    for command in (
        ["ingest", "docword", here / "x.txt", made, "--vocab", here / "v.txt", "--split", "0.8"],
        ["train", "lda", made, run, "--schedule", "serial", "--epochs", 20, "--set", "n_topics=2"],
    ):
        done = run_cli(*command)
        assert done.code == 0, done.err
    return here


def test_documents_are_held_out(folder, run_cli):
    told = [run_cli("info", folder / name, "--json").json for name in ("x.zarr", "x-test.zarr")]
    assert sum(part["n_rows"] for part in told) == 120
    assert 5 < told[1]["n_rows"] < 45
    scores = run_cli("evaluate", folder / "run.zarr", folder / "x-test.zarr", "--json").json
    assert scores["heldout_log_likelihood_per_word"] == pytest.approx(-np.log(6), abs=0.1)


@pytest.mark.parametrize("verb", ["report", "info"])
def test_topics_are_shown_by_their_words(folder, run_cli, verb):
    topics = run_cli(verb, folder / "run.zarr", "--json").json["top_columns"]["topics"]
    for topic in topics:
        assert topic["share"] == pytest.approx(0.5, abs=0.1)
        names = [item["name"] for item in topic["top"][:6]]
        assert {name[:-1] for name in names} in ({"sea"}, {"hill"})
        weights = [item["weight"] for item in topic["top"]]
        assert weights == sorted(weights, reverse=True)
        assert sum(weights[:6]) == pytest.approx(1, abs=0.05)
    assert " sea" in run_cli(verb, folder / "run.zarr").out
