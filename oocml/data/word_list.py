"""The words that documents of numbered words are made of: a file with a word a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from oocml.data.parts import open_stream, undamaged
from oocml.data.readers import Schema, Totals, numeric_schema
from oocml.errors import InputError

if TYPE_CHECKING:
    from oocml.data.dataset import Dataset

MAX_LIST_BYTES = 1 << 30


def read_words(path: str) -> list[str]:
    """The lines of a vocabulary, without blanks around them; the n-th is the name of the n-th word.

    Raises
    ------
    InputError
        The file is missing, empty, damaged or no list of words; or a line is empty, which would shift all that follow.
    """
    try:
        with open_stream(path) as file, undamaged(path):
            text = file.read(MAX_LIST_BYTES)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    words = []
    for number, line in enumerate(text.rstrip().split(b"\n") if text.strip() else [], start=1):
        try:
            word = line.strip().decode("utf-8")
        except UnicodeDecodeError:
            raise InputError(f"{path} line {number}: {line[:40]!r} is not UTF-8; convert the file") from None
        if not word:
            raise InputError(f"{path} line {number} is empty; give the vocabulary a word on every line")
        words.append(word)
    if not words:
        raise InputError(f"{path} is empty; a vocabulary has a word on every line")
    return words


def word_schema(
    totals: Totals, like: Dataset | None, words: Sequence[str] | None, *, n_cols: int | None, base: int
) -> Schema:
    """The schema of word counts: a column a word, named where there is a vocabulary.

    Parameters
    ----------
    n_cols
        Words that the source says there are, or None.
    base
        Number of the first word.
    """
    if like is not None:
        if words is not None and words != like.feature_names:
            raise InputError(
                f"the vocabulary of {len(words)} words is not that of the training set {like.path}; "
                "leave it out if words have the same numbers in both"
            )
        if n_cols is not None and n_cols != like.n_cols:
            raise InputError(
                f"the documents have {n_cols} words, the training set {like.path} {like.n_cols}; they must agree"
            )
    schema = numeric_schema(totals, like, n_cols=n_cols, index_base=base)
    return schema if like is not None else replace(schema, label_kind="none", feature_names=words)
