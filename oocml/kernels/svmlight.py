"""The svmlight line format, a block of whole lines at a time.

A line is ``[label[,label ...]] [qid:n] [index:value ...] [# comment]``, fields apart by blanks or tabs. A line whose
first number is followed by a colon has no label.
"""

import numpy as np

from oocml.kernels.decimal import HARD, HUGE, NOT_A_NUMBER, OK, TINY, parse_number
from oocml.kernels.jit import jit

NEWLINE, RETURN, TAB, BLANK, HASH, COMMA, COLON, LETTER_Q = 10, 13, 9, 32, 35, 44, 58, 113
MAX_INDEX = 2**31 - 1
NO_QUERY = -1
FLOAT32_OVERFLOW = 3.4028235677973366e38
"""Doubles from here on round to infinity in float32."""

BAD_LABEL, BAD_INDEX, BAD_VALUE, OUT_OF_RANGE, DUPLICATE, LARGE_INDEX, BAD_QUERY = 1, 2, 3, 4, 5, 6, 7
UNKNOWN_LABEL = 8
"""What is wrong with a line."""

LABEL, VALUE = 0, 1
"""Where a hard number belongs."""


@jit
def count_marks(text):
    """Newlines, colons and commas: bounds on rows, entries and labels of a block."""
    lines = colons = commas = 0
    for at in range(len(text)):
        lines += text[at] == NEWLINE
        colons += text[at] == COLON
        commas += text[at] == COMMA
    return lines, colons, commas


@jit
def is_blank(byte):
    return byte in (BLANK, TAB, RETURN)


@jit
def ends_field(byte):
    return byte in (BLANK, NEWLINE, TAB, RETURN, HASH)


@jit
def sort_row(indices, data, lo, hi):
    """Sort entries lo:hi by column."""
    # e, f=nonzero
    if hi - lo > 64:
        order = np.argsort(indices[lo:hi])
        indices[lo:hi] = indices[lo:hi][order]
        data[lo:hi] = data[lo:hi][order]
        return
    for e in range(lo + 1, hi):
        index, value = indices[e], data[e]
        f = e
        while f > lo and indices[f - 1] > index:
            indices[f], data[f] = indices[f - 1], data[f - 1]
            f -= 1
        indices[f], data[f] = index, value


@jit
def parse_natural(text, at, limit):
    """Digits from ``text[at]`` on: (value, or -1 without digits, or -2 above limit; first byte after)."""
    start, value = at, 0
    while np.uint8(text[at] - 48) < 10:
        if value <= limit:
            value = value * 10 + np.int64(text[at] - 48)
        at += 1
    if at == start:
        return -1, at
    return (-2 if value > limit else value), at


@jit
def parse_lines(text, grammar, indptr, indices, data, label_indptr, labels, row_at, qid, bad, hard):
    """Parse all lines of a block.

    Explicit zeros are left out. Rows come sorted by index.

    Parameters
    ----------
    text : uint8, ending in a newline
    grammar : tuple of int
        Whether an empty line is a row without labels and features (1) or nothing (0); the largest index; the
        number of labels, which then are 0, 1, ... (-1: labels are any numbers).
    indptr, indices, data, label_indptr, labels, row_at, qid
        Outputs, as long as ``count_marks`` asks for. ``row_at``: where each row begins in ``text``.
    bad : int64 (lines, 3)
        Line number within the block, what is wrong, and where in ``text``; such lines give no row.
    hard : int64 (entries + labels, 3)
        LABEL or VALUE, its place in ``labels`` or ``data``, and where in ``text``: for Python to convert.

    Returns
    -------
    n_rows, n_lines, n_bad, n_hard, min_index, max_index, n_queries
        The indices over all entries of good rows, zeros too (-1 where there are none); rows with a qid.
    """
    # i=row, e=nonzero, c=label
    at, i, e, c, line, n_bad, n_hard, n_queries = 0, 0, 0, 0, 0, 0, 0, 0
    lowest, highest = np.int64(-1), np.int64(-1)
    indptr[0] = label_indptr[0] = 0
    blank_is_row, max_index, n_known = grammar
    while at < len(text):
        begin = at
        e, c, hard_before = indptr[i], label_indptr[i], n_hard
        row_lowest, row_highest, previous, query = lowest, highest, np.int64(-1), np.int64(NO_QUERY)
        problem, in_order, empty = 0, True, True
        in_labels = True
        while True:
            while is_blank(text[at]):
                at += 1
            if text[at] == NEWLINE:
                break
            if text[at] == HASH:
                while text[at] != NEWLINE:
                    at += 1
                break
            empty = False
            field = at
            if text[at] == LETTER_Q:
                in_labels = False
                if not (text[at + 1] == 105 and text[at + 2] == 100 and text[at + 3] == COLON):
                    problem = BAD_INDEX
                    break
                query, at = parse_natural(text, at + 4, np.int64(2**62))
                if query < 0 or not ends_field(text[at]):
                    problem = BAD_QUERY
                    break
                continue
            if in_labels:
                status, value, after = parse_number(text, at)
                if text[after] == COLON:
                    in_labels = False
                elif status == NOT_A_NUMBER or not (ends_field(text[after]) or text[after] == COMMA):
                    problem = BAD_LABEL
                    break
                elif status == HUGE:
                    problem = OUT_OF_RANGE
                    break
                elif n_known >= 0 and not (0 <= value < n_known and value == np.floor(value)):
                    problem = UNKNOWN_LABEL
                    break
                else:
                    if status != OK:
                        hard[n_hard, 0], hard[n_hard, 1], hard[n_hard, 2] = LABEL, c, at
                        n_hard += 1
                    labels[c] = value
                    c += 1
                    at = after
                    while is_blank(text[at]):
                        at += 1
                    if text[at] == COMMA:
                        at += 1
                    else:
                        in_labels = False
                    continue
            index, at = parse_natural(text, at, max_index)
            if index < 0 or text[at] != COLON:
                problem = LARGE_INDEX if index == -2 else BAD_INDEX
                at = field
                break
            at += 1
            value_at = at
            status, value, at = parse_number(text, at)
            if status == NOT_A_NUMBER or not ends_field(text[at]):
                problem, at = BAD_VALUE, value_at
                break
            if status == HUGE or abs(value) >= FLOAT32_OVERFLOW:
                problem, at = OUT_OF_RANGE, value_at
                break
            if row_lowest < 0 or index < row_lowest:
                row_lowest = index
            if index > row_highest:
                row_highest = index
            if status == HARD:
                hard[n_hard, 0], hard[n_hard, 1], hard[n_hard, 2] = VALUE, e, value_at
                n_hard += 1
                value = 1.0
            stored = np.float32(0.0 if status == TINY else value)
            if stored != 0:
                in_order = in_order and index > previous
                previous = index
                indices[e] = index
                data[e] = stored
                e += 1
        if problem == 0 and not in_order:
            lo = indptr[i]
            # hard numbers are found by their place, so such a row must keep its order until they are converted
            if n_hard == hard_before:
                sort_row(indices, data, lo, e)
                for f in range(lo + 1, e):
                    if indices[f] == indices[f - 1]:
                        problem = DUPLICATE
                        previous = indices[f]
        if problem:
            bad[n_bad, 0], bad[n_bad, 1], bad[n_bad, 2] = line, problem, at
            if problem == DUPLICATE:
                bad[n_bad, 2] = previous
            n_bad += 1
            n_hard = hard_before
        elif not empty or blank_is_row:
            row_at[i] = begin
            qid[i] = query
            n_queries += query != NO_QUERY
            i += 1
            indptr[i] = e
            label_indptr[i] = c
            lowest, highest = row_lowest, row_highest
        while text[at] != NEWLINE:
            at += 1
        at += 1
        line += 1
    return i, line, n_bad, n_hard, lowest, highest, n_queries
