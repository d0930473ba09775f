"""Ratings written as a dense table: a line per user, a field per item, most of them saying that there is none.

Users and items are called by their numbers from 1: of the line (blank ones and a header don't count) and of the column
after those passed over. From there on everything is as for ratings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from oocml.data.parts import BytesArray, text_parts
from oocml.data.ratings import Ratings, RatingsReader, reason, spans_as_tokens
from oocml.data.ratings_layout import Given, RatingsLayout, check_sep, find_layout
from oocml.data.readers import BadLines, EntryBatch, Part
from oocml.data.tokens import Tokens
from oocml.errors import InputError, UsageError
from oocml.kernels import delimited
from oocml.types import Int64Array


class RatingsMatrixReader(RatingsReader):
    """Reads one delimited file of numbers.

    Parameters
    ----------
    skip
        Columns to pass over at the beginning of every line.
    missing
        The number that says that there is no rating; empty fields say so too.
    sep, header, share, fraction, split_seed
        As for `RatingsReader`.
    """

    INHERITED = ()

    def __init__(
        self,
        *,
        skip: int | str = 0,
        missing: float | str | None = None,
        sep: str | None = None,
        header: int | str | None = None,
        share: str = "all",
        fraction: float = 1.0,
        split_seed: int = 0,
    ) -> None:
        super().__init__(sep=sep, header=header, share=share, fraction=fraction, split_seed=split_seed)
        # any two columns will do: a table names none
        self._given = Given(check_sep(sep), self._given.header, ("user", "item"))
        try:
            self._skip = int(skip)
            self._missing = np.float32(np.nan if missing is None else missing)
        except ValueError:
            raise UsageError(f"skip={skip} and missing={missing} must be numbers") from None
        self._n_rows = 0

    def parts(self, paths: Sequence[str], part_bytes: int) -> list[Part]:
        """One part, since rows are counted."""
        if len(paths) != 1:
            raise UsageError(
                f"a ratings-matrix is one file, not {len(paths)}; join them in the order of their users"
            )
        text_parts(paths, part_bytes)
        layout = find_layout(paths[0], self._given)
        if not 0 <= self._skip < layout.columns.n_fields:
            raise InputError(
                f"{paths[0]} has {layout.columns.n_fields} columns; skip={self._skip} leaves none"
            )
        return [Part(0, paths[0], 0, -1)]

    def read(self, part: Part, bad: BadLines) -> Iterator[EntryBatch]:
        self._n_rows = 0
        return super().read(part, bad)

    def _parse(self, text: BytesArray, layout: RatingsLayout, bad: BadLines, line: int) -> Ratings:
        n_lines = delimited.count_lines(text)
        n_fields = layout.columns.n_fields
        values = np.empty((n_lines, n_fields - self._skip), np.float32)
        wrong = np.empty((n_lines, 4), np.int64)
        hard = np.empty((values.size, 3), np.int64)
        sep = np.frombuffer(layout.sep, np.uint8)
        n_rows, n_wrong, n_hard = delimited.parse_table(
            text, sep, (n_fields, self._skip), self._missing, values, wrong, hard
        )
        for at, problem, lo, hi in wrong[:n_wrong].tolist():
            bad.add(line + at, reason(problem, lo, hi, text, layout))
        for place, lo, hi in hard[:n_hard].tolist():
            value = np.float32(text[lo:hi].tobytes())
            values.flat[place] = np.nan if value == self._missing else value
        rows, columns = np.nonzero(~np.isnan(values[:n_rows]))
        users, items = _numbers(self._n_rows, n_rows), _numbers(0, values.shape[1])
        self._n_rows += n_rows
        return Ratings(_repeated(users, rows), _repeated(items, columns), values[rows, columns], n_lines)


def _numbers(before: int, n: int) -> Tokens:
    """The names of ``n`` numbers after ``before``."""
    names = [b"%d" % number for number in range(before + 1, before + n + 1)]
    ends = np.cumsum([0, *map(len, names)])
    return spans_as_tokens(np.frombuffer(b"".join(names), np.uint8), ends[:-1], ends[1:])


def _repeated(tokens: Tokens, places: Int64Array) -> Tokens:
    return tokens._replace(start=tokens.start[places], stop=tokens.stop[places], hash=tokens.hash[places])
