"""LDA-C documents: a row a line, and every bad line is named."""

import gzip

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oocml.data.dataset import Dataset
from oocml.data.ingest import ingest
from oocml.data.split import ingest_split
from oocml.errors import InputError
from tests.data.word_counts import documents, ldac_text, read, stored


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ldac")


@given(docs=documents, part_bytes=st.integers(1, 60), block=st.integers(6, 50), packed=st.booleans())
def test_documents_are_the_same_however_the_file_is_cut(folder, docs, part_bytes, block, packed):
    text = ldac_text(docs).encode()
    (folder / "x").write_bytes(gzip.compress(text) if packed else text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("oocml.data.parts.BLOCK_BYTES", block)
        assert read([folder / "x"], "ldac", part_bytes) == docs


def test_ingest_keeps_empty_documents_and_words_that_never_occur(tmp_path):
    (tmp_path / "x").write_text("2 3:1 0:2\n\n0\n3 1:1 1:4 2:0\n")
    (tmp_path / "v").write_text("a\nb\nc\nd\ne\n")
    ingest("ldac", tmp_path / "x", tmp_path / "x.zarr", vocab=str(tmp_path / "v"))
    assert stored(tmp_path / "x.zarr") == [{0: 2.0, 3: 1.0}, {}, {1: 5.0}]
    assert Dataset.open(tmp_path / "x.zarr").feature_names == ["a", "b", "c", "d", "e"]
    ingest("ldac", tmp_path / "x", tmp_path / "y.zarr")
    assert Dataset.open(tmp_path / "y.zarr").n_cols == 4


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("x 1:2", "'x' is not the number of words that follow"),
        ("1:2", "'1:2' is not the number of words"),
        ("2 1:2", "2 words are promised and 1 follow"),
        ("1 1:2 3:4", "1 words are promised and 2 follow"),
        ("1 3:", "'3:' is not word:count"),
        ("1 3:1.5", "'3:1.5' is not word:count"),
        ("1 -3:1", "'-3:1' is not word:count"),
        ("1 7:1", "word of '7:1' is beyond the vocabulary, whose last is 4"),
        ("1 99999999999:1", "number of '99999999999:1' is out of range"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, line, message):
    (tmp_path / "x").write_text(f"1 0:1\n\n{line}\n1 1:1\n")
    (tmp_path / "v").write_text("a\nb\nc\nd\ne\n")
    with pytest.raises(InputError, match=f"x line 3: {message}"):
        ingest("ldac", tmp_path / "x", tmp_path / "x.zarr", vocab=str(tmp_path / "v"))
    assert not list(tmp_path.glob("x.zarr*"))
    ingest("ldac", tmp_path / "x", tmp_path / "x.zarr", vocab=str(tmp_path / "v"), max_bad=1)
    assert stored(tmp_path / "x.zarr") == [{0: 1.0}, {1: 1.0}]


def test_real_news_are_split_by_document(tmp_path, shared_data):
    path, vocab = shared_data("ap/ap.ldac.gz"), shared_data("ap/vocab.txt")
    told = ingest_split("ldac", path, tmp_path / "x.zarr", split=0.9, vocab=str(vocab))
    assert told["n_rows"] + told["test_n_rows"] == 2246
    assert told["nnz"] + told["test_nnz"] == 302_031
    assert told["n_cols"] == 10_473
    assert np.isclose(told["test_n_rows"] / 2246, 0.1, atol=0.03)
