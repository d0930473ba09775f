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
UNKNOWN_LABEL, NO_LABEL, MANY_LABELS, MISSING_QUERY = 8, 9, 10, 11
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
def skip_blanks(text, at):
    """First byte from ``at`` on that is no blank."""
    while is_blank(text[at]):
        at += 1
    return at


@jit
def parse_labels(text, at, n_known, labels, c, hard, n_hard):
    """The labels that begin at ``text[at]``: (first byte after, end of labels, end of hard, problem)."""
    # c=label
    while True:
        status, value, after = parse_number(text, at)
        if text[after] == COLON or text[at] == LETTER_Q:
            return at, c, n_hard, 0
        if status == NOT_A_NUMBER or not (ends_field(text[after]) or text[after] == COMMA):
            return at, c, n_hard, BAD_LABEL
        if status == HUGE:
            return at, c, n_hard, OUT_OF_RANGE
        if n_known >= 0 and not (0 <= value < n_known and value == np.floor(value)):
            return at, c, n_hard, UNKNOWN_LABEL
        if status != OK:
            hard[n_hard, 0], hard[n_hard, 1], hard[n_hard, 2] = LABEL, c, at
            n_hard += 1
        labels[c] = value
        c += 1
        at = skip_blanks(text, after)
        if text[at] != COMMA:
            return at, c, n_hard, 0
        at = skip_blanks(text, at + 1)
        if text[at] == NEWLINE or text[at] == HASH:
            return at, c, n_hard, 0


@jit
def parse_entries(text, at, max_index, indices, data, e, hard, n_hard):
    """The query and the entries from ``text[at]`` to the end of the line.

    Returns where parsing ended, the ends of entries and of hard, the problem, the query, the smallest and largest
    index (-1 for none) and whether the stored entries are in strictly increasing order.
    """
    # e=nonzero
    lowest, highest, previous, query = np.int64(-1), np.int64(-1), np.int64(-1), np.int64(NO_QUERY)
    in_order = True
    while True:
        at = skip_blanks(text, at)
        if text[at] == NEWLINE or text[at] == HASH:
            return at, e, n_hard, 0, query, lowest, highest, in_order
        field = at
        if text[at] == LETTER_Q and text[at + 1] == 105 and text[at + 2] == 100 and text[at + 3] == COLON:
            again = query != NO_QUERY
            query, at = parse_natural(text, at + 4, np.int64(2**62))
            if again or query < 0 or not ends_field(text[at]):
                return field + 4, e, n_hard, BAD_QUERY, query, lowest, highest, in_order
            continue
        index, at = parse_natural(text, at, max_index)
        if index < 0 or text[at] != COLON:
            problem = LARGE_INDEX if index == -2 else BAD_INDEX
            return field, e, n_hard, problem, query, lowest, highest, in_order
        field = at + 1
        status, value, at = parse_number(text, field)
        if status == NOT_A_NUMBER or not ends_field(text[at]):
            return field, e, n_hard, BAD_VALUE, query, lowest, highest, in_order
        if status == HUGE or abs(value) >= FLOAT32_OVERFLOW:
            return field, e, n_hard, OUT_OF_RANGE, query, lowest, highest, in_order
        lowest = index if lowest < 0 else min(lowest, index)
        highest = max(highest, index)
        if status == HARD:
            hard[n_hard, 0], hard[n_hard, 1], hard[n_hard, 2] = VALUE, e, field
            n_hard += 1
            value = 1.0
        stored = np.float32(0.0 if status == TINY else value)
        if stored != 0:
            in_order = in_order and index > previous
            previous = index
            indices[e] = index
            data[e] = stored
            e += 1


@jit
def first_repeated(indices, lo, hi):
    """An index that occurs twice in the sorted entries lo:hi, or -1."""
    # e=nonzero
    for e in range(lo + 1, hi):
        if indices[e] == indices[e - 1]:
            return np.int64(indices[e])
    return np.int64(-1)


@jit
def parse_lines(text, grammar, indptr, indices, data, label_indptr, labels, row_at, qid, bad, hard):
    """Parse all lines of a block.

    Explicit zeros are left out. Rows come sorted by index.

    Parameters
    ----------
    text : uint8, ending in a newline
    grammar : tuple of int
        Whether an empty line is a row without labels and features (1) or nothing (0); the largest index; the
        number of labels, which then are 0, 1, ... (-1: labels are any numbers); whether every row must have one label
        and a query (1).
    indptr, indices, data, label_indptr, labels, row_at, qid
        Outputs, as long as ``count_marks`` asks for. ``row_at``: where each row begins in ``text``.
    bad : int64 (lines, 3)
        Line number within the block, what is wrong, and where in ``text`` (DUPLICATE: the index); such lines give
        no row.
    hard : int64 (entries + labels, 3)
        LABEL or VALUE, its place in ``labels`` or ``data``, and where in ``text``: for Python to convert. Rows
        with hard values keep their order.

    Returns
    -------
    n_rows, n_lines, n_bad, n_hard, min_index, max_index, n_queries
        The indices over all entries of good rows, zeros too (-1 where there are none); rows with a qid.
    """
    # i=row, e=nonzero, c=label
    blank_is_row, max_index, n_known, is_ranked = grammar
    at, i, line, n_bad, n_hard, n_queries = 0, 0, 0, 0, 0, 0
    lowest, highest = np.int64(-1), np.int64(-1)
    indptr[0] = label_indptr[0] = 0
    while at < len(text):
        row_at[i] = at
        at = skip_blanks(text, at)
        first = at
        empty = text[at] == NEWLINE or text[at] == HASH
        c, hard_end, problem = label_indptr[i], n_hard, 0
        if not empty:
            at, c, hard_end, problem = parse_labels(text, at, n_known, labels, c, hard, n_hard)
        if problem == 0:
            at, e, hard_end, problem, query, low, high, in_order = parse_entries(
                text, at, max_index, indices, data, indptr[i], hard, hard_end
            )
            if problem == 0 and not in_order and hard_end == n_hard:
                sort_row(indices, data, indptr[i], e)
                repeated = first_repeated(indices, indptr[i], e)
                if repeated >= 0:
                    problem = DUPLICATE
            if problem == 0 and is_ranked and not empty:
                if c != label_indptr[i] + 1:
                    at, problem = first, (NO_LABEL if c == label_indptr[i] else MANY_LABELS)
                elif query == NO_QUERY:
                    problem = MISSING_QUERY
        if problem:
            bad[n_bad, 0], bad[n_bad, 1], bad[n_bad, 2] = line, problem, at
            if problem == DUPLICATE:
                bad[n_bad, 2] = repeated
            n_bad += 1
        elif not empty or blank_is_row:
            n_hard = hard_end
            qid[i] = query
            n_queries += query != NO_QUERY
            i += 1
            indptr[i], label_indptr[i] = e, c
            if high >= 0:
                lowest = low if lowest < 0 else min(lowest, low)
                highest = max(highest, high)
        while text[at] != NEWLINE:
            at += 1
        at += 1
        line += 1
    return i, line, n_bad, n_hard, lowest, highest, n_queries
