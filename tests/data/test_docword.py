"""Bags of words: a row a document, however the file is cut, and every bad line is named."""

import gzip

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from oocml.data import docword
from oocml.data.dataset import Dataset
from oocml.data.ingest import ingest
from oocml.data.split import ingest_split
from oocml.errors import InputError, UsageError
from tests.data.word_counts import documents, docword_text, read, stored

WORDS = [f"word{j}" for j in range(12)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("docword")


def made(path, text):
    path.write_text(text)
    return path


@given(
    docs=documents,
    part_bytes=st.integers(1, 60),
    block=st.integers(6, 50),
    blank=st.booleans(),
    packed=st.booleans(),
)
@example([{}, {}, {}, {}], 1, 6, False, False)
def test_documents_are_the_same_however_the_file_is_cut(folder, docs, part_bytes, block, blank, packed):
    text = docword_text(docs, blank_lines=blank).encode()
    (folder / "x").write_bytes(gzip.compress(text) if packed else text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("oocml.data.parts.BLOCK_BYTES", block)
        patch.setattr(docword, "TAIL_BYTES", block)
        patch.setattr(docword, "ROWS_AT_ONCE", 3)
        assert read([folder / "x"], "docword", part_bytes) == docs


def test_ingest_keeps_empty_documents_counts_and_the_names_of_words(tmp_path, small):
    draw = np.random.default_rng(0)
    docs = [
        {
            int(j): int(n)
            for j, n in zip(draw.permutation(12)[: draw.integers(0, 9)], draw.integers(1, 9, 9), strict=False)
        }
        for _ in range(400)
    ]
    vocab = made(tmp_path / "v", "\n".join(WORDS) + "\n")
    path = made(tmp_path / "x", docword_text(docs))
    ingest("docword", path, tmp_path / "x.zarr", vocab=str(vocab), panel_bytes=4000)
    dataset = Dataset.open(tmp_path / "x.zarr")
    assert stored(tmp_path / "x.zarr") == docs
    assert dataset.n_panels > 1 and dataset.feature_names == WORDS and dataset.label_kind == "none"


def test_counts_of_a_word_that_occurs_twice_are_added_up_and_zeros_left_out(tmp_path):
    path = made(tmp_path / "x", "2\n4\n4\n1 3 2\n1 1 5\n1 3 4\n2 2 0\n")
    ingest("docword", path, tmp_path / "x.zarr")
    assert stored(tmp_path / "x.zarr") == [{0: 5.0, 2: 6.0}, {}]


def test_several_files_follow_one_another(tmp_path):
    a, b = made(tmp_path / "a", "2\n4\n1\n2 1 1\n"), made(tmp_path / "b", "3\n4\n1\n1 4 2\n")
    ingest("docword", [a, b], tmp_path / "x.zarr")
    assert stored(tmp_path / "x.zarr") == [{}, {0: 1.0}, {3: 2.0}, {}, {}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x\n4\n1\n1 1 1\n", "line 1: .* is not the number of documents"),
        ("2\n4\n", "line 3: .* is not the number of entries"),
        ("0\n4\n0\n", "promises 0 documents"),
        ("2\n4\n2\n1 1 1\n\n1 x 1\n", "line 6: '1 x 1' is not 'document word count'"),
        ("2\n4\n2\n1 1 1\n1 2\n", "line 5: '1 2' is not 'document word count'"),
        ("2\n4\n2\n1 1 1\n1 2 -1\n", "line 5: '1 2 -1' is not"),
        ("2\n4\n2\n1 1 1\n1 2 1 7\n", "line 5: '1 2 1 7' is not"),
        ("2\n4\n2\n1 1 1\n3 2 1\n", "line 5: document of '3 2 1' is not one of 1 .. 2"),
        ("2\n4\n2\n1 1 1\n1 5 1\n", "line 5: word of '1 5 1' is not one of 1 .. 4"),
        ("2\n4\n2\n1 0 1\n1 5 1\n", "line 4: word of '1 0 1' is not one of 1 .. 4"),
        ("2\n4\n2\n1 1 99999999999\n1 5 1\n", "line 4: a number of .* is out of range"),
        ("2\n4\n2\n2 1 1\n1 3 1\n", "line 5: its document comes before 2, that of the line before; sort"),
        ("2\n4\n3\n1 1 1\n1 2 1\n", "promises 3 entries and has 2; is it cut short"),
        ("2\n4\n1\n1 1 1\n1 2 1\n", "promises 1 entries and has 2; is it more than one file"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_left(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        ingest("docword", made(tmp_path / "x", text), tmp_path / "x.zarr")
    assert not list(tmp_path.glob("x.zarr*"))


def test_a_file_of_next_to_nothing_but_empty_documents_is_refused(tmp_path):
    path = made(tmp_path / "x", "2147483647\n3\n1\n1 1 1\n")
    with pytest.raises(InputError, match="2147483647 documents but only 1 entries"):
        ingest("docword", path, str(tmp_path / "x.zarr"))
    assert list(tmp_path.iterdir()) == [path]


def test_a_bad_line_keeps_its_number_in_every_part_and_is_counted_once(tmp_path, small):
    docs = [{0: 1, 5: 2, 7: 12345}] * 300
    lines = docword_text(docs).split("\n")
    lines[500] = "9 z 1"
    path = made(tmp_path / "x", "\n".join(lines))
    with pytest.raises(InputError, match="line 501: '9 z 1'"):
        ingest("docword", path, tmp_path / "x.zarr")
    assert ingest("docword", path, tmp_path / "x.zarr", max_bad=1)["bad_lines"] == 1
    assert sum(doc != docs[0] for doc in stored(tmp_path / "x.zarr")) == 1


def test_a_vocabulary_of_another_length_is_refused(tmp_path):
    path, vocab = made(tmp_path / "x", "1\n4\n1\n1 1 1\n"), made(tmp_path / "v", "a\nb\n")
    with pytest.raises(InputError, match="v has 2 words, .*x 4; they must agree"):
        ingest("docword", path, tmp_path / "x.zarr", vocab=str(vocab))
    with pytest.raises(InputError, match="v line 2 is empty"):
        ingest("docword", path, tmp_path / "x.zarr", vocab=str(made(tmp_path / "v", "a\n\nb\n")))
    with pytest.raises(InputError, match="nowhere: No such file"):
        ingest("docword", path, tmp_path / "x.zarr", vocab=str(tmp_path / "nowhere"))


def test_test_documents_have_the_words_of_their_training_set(tmp_path):
    vocab = made(tmp_path / "v", "a\nb\nc\nd\n")
    ingest("docword", made(tmp_path / "x", "1\n4\n1\n1 1 1\n"), tmp_path / "x.zarr", vocab=str(vocab))
    test = made(tmp_path / "t", "1\n4\n1\n1 4 2\n")
    ingest("docword", test, tmp_path / "t.zarr", like=tmp_path / "x.zarr")
    assert stored(tmp_path / "t.zarr") == [{3: 2.0}]
    assert Dataset.open(tmp_path / "t.zarr").feature_names == ["a", "b", "c", "d"]
    other = made(tmp_path / "w", "a\nb\nd\nc\n")
    with pytest.raises(InputError, match="is not that of the training set"):
        ingest("docword", test, tmp_path / "u.zarr", like=tmp_path / "x.zarr", vocab=str(other))
    longer = made(tmp_path / "l", "1\n5\n1\n1 4 2\n")
    with pytest.raises(InputError, match="have 5 words, the training set .* 4"):
        ingest("docword", longer, tmp_path / "u.zarr", like=tmp_path / "x.zarr")


def test_a_split_deals_every_document_to_one_of_two_parts(tmp_path, small):
    docs = [{j % 12: j + 1} for j in range(500)]
    path = made(tmp_path / "x", docword_text(docs))
    told = ingest_split("docword", path, tmp_path / "x.zarr", split=0.9, seed=3)
    train, test = stored(tmp_path / "x.zarr"), stored(tmp_path / "x-test.zarr")
    assert (told["n_rows"], told["test_n_rows"]) == (len(train), len(test))
    assert sorted(train + test, key=lambda doc: max(doc.values())) == docs
    assert 25 < len(test) < 80
    # cut otherwise, the same documents are held out
    packed = tmp_path / "x.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    ingest_split("docword", packed, tmp_path / "y.zarr", split=0.9, seed=3)
    assert stored(tmp_path / "y-test.zarr") == test
    ingest_split("docword", packed, tmp_path / "z.zarr", split=0.9, seed=4)
    assert stored(tmp_path / "z-test.zarr") != test


def test_formats_whose_columns_depend_on_the_rows_are_not_split(tmp_path):
    path = made(tmp_path / "x", "a b c\n")
    with pytest.raises(UsageError, match="text can't be split; formats that can are .*docword"):
        ingest_split("text", path, tmp_path / "x.zarr", split=0.5)
    with pytest.raises(UsageError, match="split=1.5 is no share"):
        ingest_split("docword", path, tmp_path / "x.zarr", split=1.5)
    with pytest.raises(UsageError, match="leave out --like"):
        ingest_split("docword", path, tmp_path / "x.zarr", split=0.5, like="y.zarr")


def test_real_bags_of_words_have_the_documents_their_files_promise(tmp_path, shared_data):
    path, vocab = shared_data("kos/docword.kos.txt.gz"), shared_data("kos/vocab.kos.txt")
    ingest("docword", path, tmp_path / "x.zarr", vocab=str(vocab))
    dataset = Dataset.open(tmp_path / "x.zarr")
    assert (dataset.n_rows, dataset.n_cols, dataset.nnz) == (3430, 6906, 353_160)
    total = sum(dataset.read_panel(p).X.data.sum(dtype=np.float64) for p in range(dataset.n_panels))
    assert total == 467_714
