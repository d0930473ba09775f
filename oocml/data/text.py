"""Text: a document a line, optionally ``class TAB text``; its words become columns.

Each part counts its own words and reads its rows in terms of them; the vocabulary of the whole is chosen from the
merged counts when all parts have been read, so the text itself is read once. Columns are the chosen words in sorted
order, or ``hashing`` buckets without names. Classes are numbered in sorted order of their names. Neither depends on
how the text was cut.

There is no quoting: a text file with quoted fields is a csv file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from oocml.data import tokens
from oocml.data.classes import PartMap, label_maps, no_map, number_classes
from oocml.data.parts import body_parts, check_encoding, iter_blocks, open_stream, undamaged
from oocml.data.readers import BadLines, LabelLists, Part, RowBatch, Schema, Totals
from oocml.data.vocabulary import (
    MAX_WORDS,
    WordTable,
    choose_words,
    count_rows,
    hashed_columns,
    table_of,
)
from oocml.errors import InputError, UsageError
from oocml.types import Csr, Int32Array

if TYPE_CHECKING:
    from oocml.data.dataset import Dataset

BLOCK_BYTES = 1 << 19
"""Text turned into one batch of rows."""
BLOCK_WORDS = 1 << 15
"""Distinct words to expect in it; a wrong guess costs a little time."""
MAX_CLASSES = 1 << 22
FIRST_BYTES = 1 << 20
"""How far into a file the first document is looked for, to see whether it has a class."""


class TextFacts(NamedTuple):
    """What a part knows of its words and classes."""

    classed: bool
    words: WordTable | None
    """Words in order of first sight: their positions are the part's raw indices. None with hashing."""
    names: WordTable
    """Classes in order of first sight: their positions are the part's raw labels."""
    n_crowded: int
    """Tokens that found no room in ``words``."""


class TextReader:
    r"""Reads text.

    Parameters
    ----------
    header
        Lines to skip at the start of every file.
    classes
        ``"yes"``: every line is ``class TAB text``. ``"no"``: every line is text. ``"auto"``: as the first line of
        the file that isn't blank looks.
    min_token
        Shortest word in characters; words are runs of ``\w`` after lower-casing. 2 is scikit-learn's default.
    encoding
        Of the files; one in which ASCII characters are single bytes.
    min_count
        Keep words that occur at least so often in the whole text.
    max_features
        Keep the most frequent words (ties: first in sorted order).
    hashing
        A power of 2: hash words to so many columns instead of keeping a vocabulary.
    """

    INHERITED = ("min_token", "hashing")
    """Options that test data takes from its training set (see `oocml.data.readers.default_options`)."""

    def __init__(
        self,
        *,
        header: int = 0,
        classes: str = "auto",
        min_token: int = 2,
        encoding: str = "utf-8",
        min_count: int = 1,
        max_features: int | None = None,
        hashing: int | None = None,
    ) -> None:
        self.header = _integer("header", header, 0)
        self.min_token = _integer("min_token", min_token, 1)
        self.min_count = _integer("min_count", min_count, 1)
        self.max_features = None if max_features is None else _integer("max_features", max_features, 1)
        self.hashing = None if hashing is None else _integer("hashing", hashing, 2)
        if self.hashing is not None and (self.hashing & (self.hashing - 1) or self.hashing > 1 << 30):
            raise UsageError(f"hashing={hashing} is not a power of 2 up to 2**30; try {1 << 18}")
        if self.hashing is not None and (self.max_features is not None or self.min_count > 1):
            raise UsageError("hashing keeps no words to choose from; leave out min_count and max_features")
        if classes not in ("auto", "yes", "no"):
            raise UsageError(f"classes={classes!r} is none of auto, yes, no")
        self.classes = classes
        self.encoding = check_encoding(encoding)
        self._facts = TextFacts(False, None, WordTable(), 0)

    def parts(self, paths: Sequence[str], part_bytes: int) -> list[Part]:
        """Byte ranges of plain files, one part for a compressed file; headers of plain files belong to no part."""
        return body_parts(paths, part_bytes, self._header_bytes)

    def _header_bytes(self, path: str) -> int:
        with open_stream(path) as file, undamaged(path):
            return sum(len(file.readline()) for _ in range(self.header))

    def _classed(self, path: str) -> bool:
        if self.classes != "auto":
            return self.classes == "yes"
        with open_stream(path) as file, undamaged(path):
            for _ in range(self.header):
                file.readline()
            return tokens.has_class_field(file.read(FIRST_BYTES))

    def read(self, part: Part, bad: BadLines) -> Iterator[RowBatch]:
        """Rows of word counts; raw indices and labels are the part's own (``facts``)."""
        classed = self._classed(part.path)
        words = None if self.hashing else WordTable()
        self._facts = TextFacts(classed, words, WordTable(), 0)
        skip = self.header if part.hi < 0 else 0
        n_lines = 0
        for block in iter_blocks(part, BLOCK_BYTES):
            raw, position = block.text.tobytes(), block.position
            while skip and raw:
                line, newline, raw = raw.partition(b"\n")
                position += len(line) + len(newline)
                skip, n_lines = skip - 1, n_lines + 1
            # A byte order mark may stand before the first line of a file, never elsewhere.
            begins = np.r_[0, np.flatnonzero(np.frombuffer(raw, np.uint8) == tokens.NEWLINE) + 1] + position
            if position == 0:
                raw = raw.removeprefix(tokens.BOM)
            documents = tokens.split(raw, classed=classed, min_token=self.min_token, encoding=self.encoding)
            for line_number, reason in documents.bad:
                bad.add(n_lines + line_number, reason)
            n_lines += documents.n_lines
            if documents.line.size:
                yield self._rows(documents, begins)

    def _rows(self, documents: tokens.Documents, begins: Any) -> RowBatch:
        labels = None
        if self._facts.classed:
            named, names = tokens.class_tokens(documents), self._facts.names
            numbers = names.add(named)
            if names.n_words > MAX_CLASSES:
                raise InputError(
                    f"more than {MAX_CLASSES} different classes before the TAB; if lines have none, give classes=no"
                )
            labels = LabelLists(named.indptr, numbers.astype(np.float64))
        found = tokens.tokenize(documents)
        # The block's own words first: their table is small enough for the processor's cache.
        of_block = WordTable(BLOCK_WORDS, 8 * BLOCK_WORDS)
        X = count_rows(of_block.add(found), found.indptr, of_block.n_words)
        columns = hashed_columns(of_block.tokens(), self.hashing) if self.hashing else self._columns(of_block)
        X = X._replace(indices=columns[X.indices])
        if columns.min(initial=0) < 0:
            X = self._without_crowded(X)
        return RowBatch(X, begins[documents.line], labels)

    def _columns(self, of_block: WordTable) -> Int32Array:
        """The part's raw index of each word of a block, -1 for words there is no room for."""
        words = self._facts.words or WordTable()
        return words.merge(of_block) if words.n_words < MAX_WORDS else words.find(of_block.tokens())

    def _without_crowded(self, X: Csr) -> Csr:
        keep = X.indices >= 0
        n_crowded = int(X.data[~keep].sum())
        self._facts = self._facts._replace(n_crowded=self._facts.n_crowded + n_crowded)
        kept_before = np.concatenate([[0], np.cumsum(keep)])
        return Csr(kept_before[X.indptr], X.indices[keep], X.data[keep])

    def facts(self) -> TextFacts:
        return self._facts

    def merge(
        self, parts: Sequence[Part], facts: Sequence[TextFacts], totals: Totals, like: Dataset | None
    ) -> Schema:
        """Choose the vocabulary and number the classes. Words are mapped part by part."""
        del totals
        settings = {"min_token": self.min_token, "hashing": self.hashing}
        if like is not None:
            _check_like(like, settings)
        words, names, attrs = self._merge_counts(parts, facts)
        label_names, labels = number_classes(names.words(), like)
        n_cols = self.hashing or 0
        feature_names = None
        if not self.hashing:
            if like is not None:
                feature_names = like.feature_names or []
            else:
                feature_names = choose_words(words, self.min_count, self.max_features)
            n_cols = len(feature_names)
        del words
        return Schema(
            n_cols=n_cols,
            column_map=_column_maps(facts, feature_names),
            label_kind="number" if label_names else "none",
            label_map=label_maps(lambda part: facts[part].names.words(), label_names, labels),
            labels=labels if label_names else None,
            label_names=label_names or None,
            feature_names=feature_names,
            attrs={"text": {**settings, "encoding": self.encoding, **attrs}},
            drop_unseen=like is not None,
        )

    def _merge_counts(
        self, parts: Sequence[Part], facts: Sequence[TextFacts]
    ) -> tuple[WordTable, WordTable, dict[str, int]]:
        """Words and classes of all parts, and how many were lost to the bounds."""
        words, names = WordTable(), WordTable()
        first: tuple[str, bool] | None = None
        n_pruned = n_crowded = 0
        for part, fact in zip(parts, facts, strict=True):
            first = first or (part.path, fact.classed)
            if fact.classed != first[1]:
                raise InputError(
                    f"{part.path} {'has' if fact.classed else 'lacks'} a class before a TAB in its first line, unlike "
                    f"{first[0]}; say which it is with classes=yes or classes=no"
                )
            names.merge(fact.names)
            if fact.words is not None:
                words.merge(fact.words)
                n_pruned += words.prune(MAX_WORDS)
            n_crowded += fact.n_crowded
        return words, names, {"n_words_pruned": n_pruned, "n_tokens_crowded": n_crowded}


def _column_maps(facts: Sequence[TextFacts], feature_names: list[str] | None) -> PartMap:
    """The column of each word of a part, -1 for those without one."""
    if feature_names is None:
        return no_map
    columns = table_of(feature_names)

    def columns_of(part: int) -> Int32Array | None:
        words = facts[part].words
        return None if words is None else columns.find(words.tokens())

    return columns_of


def _check_like(like: Dataset, settings: dict[str, Any]) -> None:
    theirs = like.attrs.get("text")
    if theirs is None:
        raise InputError(
            f"{like.path} was not made of text, so it has no words to give; ingest without --like"
        )
    for name, value in settings.items():
        if theirs[name] != value:
            raise InputError(
                f"{like.path} was read with {name}={theirs[name]}, not {value}; give the same here"
            )


def _integer(name: str, value: Any, least: int) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = least - 1
    if number < least:
        raise UsageError(f"{name}={value!r} is not a whole number from {least} on")
    return number
