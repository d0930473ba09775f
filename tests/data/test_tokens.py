import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oocml.data import tokens


def words_of(raw, min_token=2, classed=False, encoding="utf-8"):
    """Each document's class and words, as lists of strings."""
    documents = tokens.split(raw, classed=classed, min_token=min_token, encoding=encoding)
    names = [
        bytes(documents.block[a:b]).decode()
        for a, b in zip(documents.class_start, documents.class_stop, strict=True)
    ]
    found = tokens.tokenize(documents)
    words = [bytes(found.block[a:b]).decode() for a, b in zip(found.start, found.stop, strict=True)]
    rows = [words[a:b] for a, b in itertools.pairwise(found.indptr)]
    return (list(zip(names, rows, strict=True)) if classed else rows), documents


ALPHABET = "aZ0_ \t.-'éÉßİσΣ中文١\u0301\u00a0\r²ǅ"


@given(lines=st.lists(st.text(alphabet=ALPHABET, max_size=12), max_size=5), min_token=st.integers(1, 3))
def test_words_are_those_of_the_regular_expression(lines, min_token):
    pattern = re.compile(rf"(?u)\b\w{{{min_token},}}\b")
    rows, documents = words_of("\n".join(lines).encode(), min_token)
    kept = [line for line in lines if line.strip()]
    # A line of blanks beyond ASCII may count as a document without words.
    assert [row for row in rows if row] == [row for line in kept if (row := pattern.findall(line.lower()))]
    assert not documents.bad


@given(
    documents=st.lists(
        st.tuples(st.text(alphabet="aBé. ", max_size=4), st.text(alphabet="aZé. ", max_size=8)), max_size=5
    )
)
def test_class_is_what_stands_before_the_first_tab(documents):
    lines = [f"{name}\t{text}" for name, text in documents]
    rows, found = words_of("\n".join(lines).encode(), 1, classed=True)
    kept = [(name, text) for name, text in documents if name.strip() or text.strip()]
    assert [name for name, _ in rows] == [name.strip() for name, _ in kept]
    assert [row for _, row in rows] == [re.findall(r"\w+", text.lower()) for _, text in kept]
    assert not found.bad


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_empty_lines_are_counted_but_are_no_documents(newline):
    raw = newline.join(["", "spam\tone two", "", " \t ", "ham\tthree", "eggs\t", ""]).encode()
    rows, documents = words_of(raw, classed=True)
    assert rows == [("spam", ["one", "two"]), ("ham", ["three"]), ("eggs", [])]
    assert documents.line.tolist() == [1, 4, 5]
    assert documents.n_lines == 6


def test_line_without_a_class_is_bad():
    rows, documents = words_of(b"spam\tone two\nthree four\nham\tfive\n", classed=True)
    assert [name for name, _ in rows] == ["spam", "ham"]
    assert documents.bad == [(1, "there is no TAB between a class and a text")]


def test_undecodable_line_is_bad_and_its_number_is_known():
    raw = b"good words\n\nbad \xff words\ncaf\xc3\xa9 open\n"
    rows, documents = words_of(raw)
    assert rows == [["good", "words"], ["café", "open"]]
    assert documents.bad == [(2, "byte 0xff is not utf-8 (try encoding=latin-1)")]


def test_other_encodings_give_the_same_words_and_classes():
    text = "Thé\tcafé NAÏVE x\n"
    want = words_of(text.encode(), classed=True)[0]
    assert words_of(text.encode("latin-1"), classed=True, encoding="latin-1")[0] == want
    assert want == [("Thé", ["café", "naïve"])]


def test_words_of_the_same_bytes_have_the_same_hash_and_others_differ():
    documents = tokens.split(b"Abc abc ABD\n", classed=False)
    found = tokens.tokenize(documents)
    assert found.hash[0] == found.hash[1]
    assert found.hash[0] != found.hash[2]
    # Fixed for ever: hashed datasets must mean the same columns in later versions.
    assert hex(found.hash[0]) == "0x33ebaf9927cbc5bd"


def test_class_fields_are_tokens_of_their_own():
    documents = tokens.split(b"b\tx\n\ty\na\tz\nb\tw\n", classed=True)
    names = tokens.class_tokens(documents)
    np.testing.assert_array_equal(names.indptr, [0, 1, 1, 2, 3])
    assert names.hash[0] == names.hash[2] != names.hash[1]


@pytest.mark.parametrize(
    ("start", "classed"), [(b"\n\nham\tx\n", True), (b"just text\na\tb\n", False), (b"", False)]
)
def test_first_line_with_anything_on_it_tells_whether_there_are_classes(start, classed):
    assert tokens.has_class_field(start) is classed
    assert tokens.has_class_field(tokens.BOM + start) is classed
