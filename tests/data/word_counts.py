"""Documents of word counts, and the ways to write them."""

import numpy as np
from hypothesis import strategies as st

from oocml.data.dataset import Dataset
from oocml.data.readers import BadLines, make_reader

documents = st.lists(
    st.dictionaries(st.integers(0, 11), st.integers(1, 99), max_size=7), min_size=1, max_size=40
)
"""Counts by word, from 0; documents may be empty."""


def docword_text(docs, n_words=12, blank_lines=False):
    lines = [f"{i + 1} {word + 1} {n}" for i, doc in enumerate(docs) for word, n in doc.items()]
    if blank_lines:
        lines = [part for line in lines for part in (line, "")]
    return "\n".join([str(len(docs)), str(n_words), str(sum(map(len, docs))), *lines, ""])


def ldac_text(docs):
    return "".join(
        " ".join([str(len(doc)), *(f"{word}:{n}" for word, n in doc.items())]) + "\n" for doc in docs
    )


def read(paths, kind, part_bytes=100, max_bad=0, **options):
    """The documents that a reader finds, whatever its parts, and its schema's facts checked by nobody."""
    reader, docs = make_reader(kind, options), []
    base = 1 if kind == "docword" else 0
    for part in reader.parts([str(path) for path in paths], part_bytes):
        bad = BadLines(limit=max_bad)
        for batch in reader.read(part, bad):
            for i in range(len(batch.position)):
                own = slice(batch.X.indptr[i], batch.X.indptr[i + 1])
                docs.append(
                    dict(zip((batch.X.indices[own] - base).tolist(), batch.X.data[own].tolist(), strict=True))
                )
    return docs


def stored(path):
    """The documents of a dataset in the order of the source."""
    dataset = Dataset.open(path)
    assert dataset.problem(deep=True) is None
    docs = {}
    for p in range(dataset.n_panels):
        panel = dataset.read_panel(p)
        for i, row in enumerate(panel.row_ids.tolist()):
            own = slice(panel.X.indptr[i], panel.X.indptr[i + 1])
            assert np.all(np.diff(panel.X.indices[own]) > 0)
            docs[row] = dict(zip(panel.X.indices[own].tolist(), panel.X.data[own].tolist(), strict=True))
    assert sorted(docs) == list(range(dataset.n_rows))
    return [docs[row] for row in range(dataset.n_rows)]
