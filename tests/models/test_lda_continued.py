"""What batch variational inference has to gain where exact ESVI ends: real documents, 128 topics."""

import gzip

import numpy as np
import pytest

from oocml.types import Csr
from tests.models.topics import training

pytestmark = pytest.mark.long
ALPHA = 0.1


def associated_press(shared_data):
    """(document, word, count) of every entry."""
    with gzip.open(shared_data("ap/ap.ldac.gz"), "rt") as file:
        rows = [np.array([pair.split(":") for pair in line.split()[1:]], int).reshape(-1, 2) for line in file]
    return np.repeat(np.arange(len(rows)), list(map(len, rows))), *np.concatenate(rows).T


def kos(shared_data):
    with gzip.open(shared_data("kos/docword.kos.txt.gz"), "rt") as file:
        return np.loadtxt(file, dtype=int, skiprows=3).T - np.array([[1], [1], [0]])


@pytest.fixture(scope="module", params=[associated_press, kos], ids=["ap", "kos"])
def documents(request, shared_data):
    """Documents and the number of words."""
    row, word, count = request.param(shared_data)
    order = np.lexsort((word, row))
    indptr = np.searchsorted(row[order], np.arange(row.max() + 2)).astype(np.int64)
    return Csr(indptr, word[order].astype(np.int32), count[order].astype(np.float32)), int(word.max()) + 1


def test_vi_gains_less_than_a_thousandth_after_fifty_exact_epochs(documents):
    X, n_words = documents
    given = {"n_topics": 128, "top_k": None, "alpha": ALPHA, "blocks": (1, 1)}
    run = training(X, n_words, sub_epoch_width=1, cvb0_epochs=30, **given).run(80)
    # a step for documents, then one for topics, from where both are, with all topics for every entry: such a step
    # never lowers the bound, which inference=vi may, since it infers documents anew in few iterations
    vi = training(X, n_words, inference="esvi", store_z=False, start="cold", **given)
    vi.state["topic_word", 0, 0][...] = run.joined("topic_word")
    vi.state["counts_next", 0, 0][...] = run.joined("gamma") - np.float32(ALPHA)
    vi.run(1, *[33] * 3)
    end = run.finals[0].objective
    gains = (end - np.array([final.objective for final in vi.finals])) / abs(end)
    assert gains[0] > -1e-6
    assert (np.diff(gains) > 0).all()
    assert gains[-1] < 1e-3
