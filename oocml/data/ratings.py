"""Ratings: ``user item value`` lines in any order, whose users become rows and whose items become columns.

Ids are names, whatever they look like. Rows and columns are numbered in the order in which their names first occur in
the sources. Every part numbers its own users and items; ingest gathers the entries of a user from all parts
(`oocml.data.gather`), and where a user has rated an item twice the later rating stands.

A part of the ratings can be left out by the hash of (user, item, seed): the two parts of a split are two
readings of the same files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from oocml.data.deal import mix
from oocml.data.names import Names
from oocml.data.parts import BytesArray, body_parts, check_encoding, iter_blocks
from oocml.data.ratings_layout import BOM, Given, RatingsLayout, check_columns, check_sep, find_layout
from oocml.data.readers import BadLines, EntryBatch, GatheredRows, Part, Schema, Totals
from oocml.data.tokens import Tokens, hash_spans
from oocml.data.vocabulary import WordTable, table_of
from oocml.errors import InputError, UsageError
from oocml.kernels import delimited
from oocml.types import Float32Array, Int64Array

if TYPE_CHECKING:
    from oocml.data.dataset import Dataset

SHARES = ("all", "train", "test")
NO_ROWS = np.zeros(0, np.int64)


class RatingsFacts(NamedTuple):
    """What a part knows of its users and items: positions in the tables are the part's raw numbers."""

    users: WordTable
    items: WordTable
    n_read: int
    """Ratings, those of the other share too."""


class RatingsReader:
    """Reads csv, tsv, MovieLens, RecBole and Matrix Market files of ratings, plain or compressed.

    Parameters
    ----------
    sep
        What is between fields: tab, space (runs of blanks), or any text that is no part of a number. Default: found
        out.
        Fields apart by a single character may be in double quotes.
    header
        Lines to skip at the start of every file. Default: a header is found out.
    columns
        Names of the fields in order: user, item, value; others are passed over. Without value, all are 1.
    encoding
        Of the files; one in which ASCII characters are single bytes.
    threshold
        Only ratings of at least this much are kept, as interactions: their value becomes 1. A training set's holds
        for what is made ``like`` it.
    share, fraction, split_seed
        ``"train"``: only the ratings that a split gives to training, a seeded random ``fraction`` of all;
        ``"test"``: only the others.
    """

    gathers = True
    """Entries of a row come from anywhere in the sources (see `oocml.data.readers.EntryBatch`)."""
    INHERITED: Sequence[str] = ("threshold",)

    def __init__(
        self,
        *,
        sep: str | None = None,
        header: int | str | None = None,
        columns: str | None = None,
        encoding: str = "utf-8",
        threshold: float | str | None = None,
        share: str = "all",
        fraction: float = 1.0,
        split_seed: int = 0,
    ) -> None:
        self._given = Given(check_sep(sep), _lines(header), check_columns(columns))
        self._encoding = check_encoding(encoding)
        try:
            self._threshold = None if threshold is None else float(threshold)
        except ValueError:
            raise UsageError(f"threshold={threshold!r} is not a number") from None
        if share not in SHARES or (share != "all" and not 0 < fraction < 1):
            raise UsageError(f"a split into {fraction} and the rest is none; give a number between 0 and 1")
        self._share = share
        self._split = {"fraction": float(fraction), "seed": int(split_seed)}
        self._facts = RatingsFacts(WordTable(), WordTable(), 0)

    def parts(self, paths: Sequence[str], part_bytes: int) -> list[Part]:
        """Byte ranges of plain files, one part for a compressed file; headers of plain files belong to no part."""
        return body_parts(paths, part_bytes, lambda path: find_layout(path, self._given).n_bytes)

    def read(self, part: Part, bad: BadLines) -> Iterator[EntryBatch]:
        layout = self._layout(part.path)
        users, items, n_read = WordTable(), WordTable(), 0
        self._facts = RatingsFacts(users, items, 0)
        line = 0
        for block in iter_blocks(part):
            raw = block.text.tobytes()
            before = raw[: max(0, layout.n_bytes - block.position)]
            raw = raw[len(before) :]
            line += before.count(b"\n")
            if block.position == 0:
                raw = raw.removeprefix(BOM)
            if not raw:
                continue
            found = self._parse(as_utf8(raw, self._encoding, bad, line), layout, bad, line)
            line += found.n_lines
            n_read += len(found.values)
            self._facts = RatingsFacts(users, items, n_read)
            if self._share != "all":
                found = self._share_of(found)
            if self._threshold is not None:
                liked = found.values >= self._threshold
                found = _those(found, liked)._replace(values=np.ones(liked.sum(), np.float32))
            yield EntryBatch(users.add(found.users), found.users.hash, items.add(found.items), found.values)

    def _layout(self, path: str) -> RatingsLayout:
        return find_layout(path, self._given)

    def _parse(self, text: BytesArray, layout: RatingsLayout, bad: BadLines, line: int) -> Ratings:
        return parse_block(text, layout, bad, line)

    def _share_of(self, found: Ratings) -> Ratings:
        fraction, seed = self._split.values()
        train = in_train(found.users.hash, found.items.hash, fraction, int(seed))
        return _those(found, train if self._share == "train" else ~train)

    def facts(self) -> RatingsFacts:
        return self._facts

    def merge(
        self, parts: Sequence[Part], facts: Sequence[RatingsFacts], totals: Totals, like: Dataset | None
    ) -> Schema:
        """Number users and items. With ``like`` the training set's come first; items that it lacks have no column."""
        users, items = WordTable(), WordTable()
        n_known = 0
        if like is not None:
            users, items = _names_of(like, "row_names"), _names_of(like, "feature_names")
            n_known = users.n_words
        n_read = 0
        for fact in facts:
            users.merge(fact.users)
            if like is None:
                items.merge(fact.items)
            n_read += fact.n_read
        self._check_promised(parts, n_read + totals.n_bad)
        attrs: dict[str, Any] = (
            {} if self._share == "all" else {"split": {"share": self._share, **self._split}}
        )
        if self._threshold is not None:
            attrs["ratings"] = {"threshold": self._threshold}
        rows = GatheredRows(
            n_rows=users.n_words,
            n_known=n_known,
            row_map=lambda part: users.find(facts[part].users.tokens()),
            names=Names(*users.text()),
            hashes=users.tokens().hash,
        )
        return Schema(
            n_cols=items.n_words,
            column_map=lambda part: items.find(facts[part].items.tokens()),
            label_kind="none",
            feature_names=Names(*items.text()),
            attrs=attrs,
            drop_unseen=like is not None,
            rows=rows,
        )

    def _check_promised(self, parts: Sequence[Part], n_found: int) -> None:
        promised = [self._layout(path).n_promised for path in dict.fromkeys(p.path for p in parts)]
        if all(n >= 0 for n in promised) and parts and sum(promised) != n_found:
            raise InputError(
                f"{parts[0].path} promises {sum(promised)} entries and has {n_found}; "
                f"is it {'cut short' if n_found < sum(promised) else 'more than one file'}?"
            )


class Ratings(NamedTuple):
    """The ratings of a block, in order."""

    users: Tokens
    items: Tokens
    values: Float32Array
    n_lines: int


def parse_block(text: BytesArray, layout: RatingsLayout, bad: BadLines, line: int) -> Ratings:
    """The ratings of whole lines.

    Parameters
    ----------
    text
        Writable; ends in a newline.
    line
        Lines of the part before this block.
    """
    n_lines = delimited.count_lines(text)
    spans = np.empty((4, n_lines), np.int64)
    values = np.empty(n_lines, np.float32)
    wrong = np.empty((n_lines, 4), np.int64)
    hard = np.empty((n_lines, 3), np.int64)
    sep = np.frombuffer(layout.sep, np.uint8)
    n, _, n_wrong, n_hard = delimited.parse_ratings(
        text, sep, layout.quoted, tuple(layout.columns), spans, values, wrong, hard
    )
    for at, problem, lo, hi in wrong[:n_wrong].tolist():
        bad.add(line + at, reason(problem, lo, hi, text, layout))
    for place, lo, hi in hard[:n_hard].tolist():
        values[place] = float(text[lo:hi].tobytes())
    users, items = spans_as_tokens(text, *spans[:2, :n]), spans_as_tokens(text, *spans[2:, :n])
    return Ratings(users, items, values[:n], n_lines)


def in_train(
    users: npt.NDArray[np.uint64], items: npt.NDArray[np.uint64], fraction: float, seed: int
) -> npt.NDArray[np.bool_]:
    """Whether each rating is one of the random ``fraction``: a function of the hashes of its names and the seed."""
    salt = np.random.SeedSequence([seed, 1]).generate_state(1, np.uint64)[0]
    drawn: npt.NDArray[np.uint64] = mix(users ^ mix(items ^ salt))
    return drawn < np.uint64(fraction * 2.0**64)


def as_utf8(raw: bytes, encoding: str, bad: BadLines, line: int) -> BytesArray:
    """A writable copy of whole lines in UTF-8; lines that can't be decoded go to ``bad`` and are left empty."""
    if not raw.isascii():
        try:
            raw = raw.decode(encoding).encode()
        except UnicodeDecodeError:
            raw = b"\n".join(_line_as_utf8(raw, encoding, bad, line))
    return np.frombuffer(bytearray(raw), np.uint8)


def _line_as_utf8(raw: bytes, encoding: str, bad: BadLines, first: int) -> Iterator[bytes]:
    for number, line in enumerate(raw.split(b"\n")):
        try:
            yield line.decode(encoding).encode()
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            bad.add(first + number, f"byte 0x{byte:02x} is not {encoding} (try encoding=latin-1)")
            yield b""


def spans_as_tokens(text: BytesArray, start: Int64Array, stop: Int64Array) -> Tokens:
    start, stop = np.ascontiguousarray(start), np.ascontiguousarray(stop)
    return Tokens(text, start, stop, hash_spans(text, start, stop), NO_ROWS)


def _those(found: Ratings, keep: npt.NDArray[np.bool_]) -> Ratings:
    return found._replace(
        users=_chosen(found.users, keep), items=_chosen(found.items, keep), values=found.values[keep]
    )


def _chosen(tokens: Tokens, keep: npt.NDArray[np.bool_]) -> Tokens:
    return tokens._replace(start=tokens.start[keep], stop=tokens.stop[keep], hash=tokens.hash[keep])


def reason(problem: int, lo: int, hi: int, text: BytesArray, layout: RatingsLayout) -> str:
    if problem == delimited.WRONG_COUNT:
        return f"there are {lo} fields, not {layout.columns.n_fields} as in the first line"
    if problem in (delimited.NO_USER, delimited.NO_ITEM):
        return f"the {'user' if problem == delimited.NO_USER else 'item'} is empty"
    shown = text[lo : min(hi, lo + 40)].tobytes().decode("utf-8", "replace")
    return {
        delimited.BAD_VALUE: "value {!r} is not a finite number",
        delimited.OUT_OF_RANGE: "value {!r} is out of range",
        delimited.OPEN_QUOTE: "the quote before {!r} has no end in this line",
        delimited.AFTER_QUOTE: "there is more after the quoted field {!r}",
    }[problem].format(shown)


def _names_of(like: Dataset, name: str) -> WordTable:
    """The training set's users or items; positions are their rows or columns."""
    return table_of(like.iter_names(name) or [])


def _lines(header: int | str | None) -> int | None:
    try:
        n = None if header is None else int(header)
    except ValueError:
        n = -1
    if n is not None and n < 0:
        raise UsageError(f"header={header!r} is not a number of lines")
    return n
