"""Interactions: lines of a user and the items it has to do with, ``user item item ...``.

Users become rows and items columns, by name, as those of ratings do (`oocml.data.ratings`); every value is 1. A user
may have several lines, in several files. A line of a user alone has no interaction and makes no row.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from oocml.data.parts import BytesArray, text_parts
from oocml.data.ratings import Ratings, RatingsReader, reason, spans_as_tokens
from oocml.data.ratings_layout import Columns, RatingsLayout, check_sep
from oocml.data.readers import BadLines, Part
from oocml.kernels.interactions import count_fields, parse_interactions

BLANKS = b""


class InteractionsReader(RatingsReader):
    """Reads lists of items, plain or compressed.

    Parameters
    ----------
    sep
        What is between fields: tab, space (runs of blanks; the default), or any text that is no part of a number.
    encoding, share, fraction, split_seed
        As for `RatingsReader`.
    """

    INHERITED = ()

    def __init__(
        self,
        *,
        sep: str | None = None,
        encoding: str = "utf-8",
        share: str = "all",
        fraction: float = 1.0,
        split_seed: int = 0,
    ) -> None:
        super().__init__(encoding=encoding, share=share, fraction=fraction, split_seed=split_seed)
        self._sep = check_sep(sep) or BLANKS

    def parts(self, paths: Sequence[str], part_bytes: int) -> list[Part]:
        """Byte ranges of plain files, one part for a compressed file."""
        return text_parts(paths, part_bytes)

    def _layout(self, path: str) -> RatingsLayout:
        del path
        return RatingsLayout(self._sep, False, Columns(2, 0, 1, -1), 0, 0)

    def _parse(self, text: BytesArray, layout: RatingsLayout, bad: BadLines, line: int) -> Ratings:
        sep = np.frombuffer(layout.sep, np.uint8)
        n_fields, n_lines = count_fields(text, sep)
        users, items = np.empty((2, n_lines), np.int64), np.empty((2, n_fields), np.int64)
        user_of, wrong = np.empty(n_fields, np.int64), np.empty((n_lines, 2), np.int64)
        n_users, n_items, n_wrong = parse_interactions(text, sep, users, items, user_of, wrong)
        for at, problem in wrong[:n_wrong].tolist():
            bad.add(line + at, reason(problem, 0, 0, text, layout))
        of_line = spans_as_tokens(text, *users[:, :n_users])
        at = user_of[:n_items]
        repeated = of_line._replace(start=of_line.start[at], stop=of_line.stop[at], hash=of_line.hash[at])
        values = np.ones(n_items, np.float32)
        return Ratings(repeated, spans_as_tokens(text, *items[:, :n_items]), values, n_lines)
