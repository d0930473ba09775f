"""Lines of delimited fields, a block of whole lines at a time: the fields that make a rating, or rows of ratings.

Fields are apart by a separator of one or more bytes, or by runs of blanks. Around them blanks don't count. Where
quotes are honoured, a field that begins with one ends at the next, may hold separators, and has two for one.
"""

import numpy as np

from oocml.kernels.decimal import HARD, HUGE, NOT_A_NUMBER, TINY, parse_number
from oocml.kernels.jit import jit

NEWLINE, RETURN, TAB, BLANK, QUOTE = 10, 13, 9, 32, 34
FLOAT32_OVERFLOW = 3.4028235677973366e38
"""Doubles from here on round to infinity in float32."""

WRONG_COUNT, NO_USER, NO_ITEM, BAD_VALUE, OUT_OF_RANGE, OPEN_QUOTE, AFTER_QUOTE = 1, 2, 3, 4, 5, 6, 7
"""What is wrong with a line."""


@jit
def is_blank(byte):
    return byte in (BLANK, TAB, RETURN)


@jit
def after_blank_line(text, at):
    """Where the next line begins if the one at ``at`` has nothing but blanks, else ``at``."""
    end = at
    while is_blank(text[end]):
        end += 1
    return end + 1 if text[end] == NEWLINE else at


@jit
def is_separator(text, at, sep):
    """Whether a separator begins at ``text[at]``; ``sep`` without bytes means any blank."""
    # e=byte of the separator
    if len(sep) == 0:
        return is_blank(text[at])
    for e in range(len(sep)):  # noqa: SIM110 (numba has no all())
        if text[at + e] != sep[e]:
            return False
    return True


@jit
def skip_blanks(text, at, sep):
    """The next byte that is neither a blank nor the first of a separator, or where the line ends."""
    while is_blank(text[at]) and (len(sep) == 0 or text[at] != sep[0]):
        at += 1
    return at


@jit
def find_quoted(text, at, sep):
    """As ``find_field`` for a field whose opening quote is at ``text[at]``; closes up doubled quotes in place."""
    start = stop = at + 1
    at += 1
    while True:
        if text[at] == NEWLINE:
            return start, stop, at, OPEN_QUOTE
        if text[at] == QUOTE:
            if text[at + 1] != QUOTE:
                break
            at += 1
        text[stop] = text[at]
        stop += 1
        at += 1
    at = skip_blanks(text, at + 1, sep)
    problem = 0 if text[at] == NEWLINE or is_separator(text, at, sep) else AFTER_QUOTE
    return start, stop, at, problem


@jit
def find_field(text, at, sep, quoted):
    """Where the field that begins at ``text[at]`` starts and stops, where the line goes on, and what is wrong."""
    at = skip_blanks(text, at, sep)
    if quoted and text[at] == QUOTE:
        return find_quoted(text, at, sep)
    start = at
    if len(sep) == 0:
        while text[at] != NEWLINE and not is_blank(text[at]):
            at += 1
        return start, at, at, 0
    first = sep[0]
    while text[at] != NEWLINE and (text[at] != first or (len(sep) > 1 and not is_separator(text, at, sep))):
        at += 1
    stop = at
    while stop > start and is_blank(text[stop - 1]):
        stop -= 1
    return start, stop, at, 0


@jit
def find_value(text, start, stop):
    """The number in a field: problem, value as float32, and whether only Python can convert it."""
    status, value, end = parse_number(text, start)
    if stop == start or status == NOT_A_NUMBER or end != stop:
        return BAD_VALUE, np.float32(0), False
    if status == HUGE or abs(value) >= FLOAT32_OVERFLOW:
        return OUT_OF_RANGE, np.float32(0), False
    return 0, np.float32(0.0 if status == TINY else value), status == HARD


@jit
def find_columns(text, at, sep, quoted, columns, spans, e):
    """Go through the fields of a line, from ``text[at]``; spans of user and item go to ``spans[:, e]``.

    Returns the end of the line, how many fields there are, what is wrong with a field, and two spans: of what is
    wrong and of the value.
    """
    # f=field
    _, user, item, value = columns
    wrong_from = wrong_to = value_from = value_to = np.int64(at)
    f = 0
    while True:
        start, stop, at, fault = find_field(text, at, sep, quoted)
        if f == user:
            spans[0, e], spans[1, e] = start, stop
        if f == item:
            spans[2, e], spans[3, e] = start, stop
        if f == value:
            value_from, value_to = start, stop
        f += 1
        if fault:
            wrong_from, wrong_to = start, stop
            break
        if len(sep) == 0:
            at = skip_blanks(text, at, sep)
        if text[at] == NEWLINE:
            break
        at += len(sep)
    while text[at] != NEWLINE:
        at += 1
    return at, f, fault, wrong_from, wrong_to, value_from, value_to


@jit
def parse_ratings(text, sep, quoted, columns, spans, values, bad, hard):
    """Find user, item and value of every line that isn't blank.

    Parameters
    ----------
    text : uint8, ending in a newline
        Doubled quotes in it are closed up.
    columns : tuple of int
        Fields of a line, and which of them, from 0, are the user, the item and the value (-1: every value is 1).
    spans : int64 (4, lines)
        Output: start and stop of the user, then of the item.
    values : float32 (lines,)
        Output.
    bad : int64 (lines, 4)
        Output: number of the line within the block, what is wrong, and where (WRONG_COUNT: how many fields).
    hard : int64 (lines, 3)
        Output: place in ``values`` and span in ``text`` of values for Python to convert.

    Returns
    -------
    n_ratings, n_lines, n_bad, n_hard
    """
    # e=rating, f=field
    n_fields, _, _, value = columns
    at = e = line = n_bad = n_hard = 0
    while at < len(text):
        begin = after_blank_line(text, at)
        if begin > at:
            at = begin
            line += 1
            continue
        at, f, problem, lo, hi, value_from, value_to = find_columns(text, at, sep, quoted, columns, spans, e)
        if problem == 0 and f != n_fields:
            problem, lo = WRONG_COUNT, f
        elif problem == 0 and spans[0, e] == spans[1, e]:
            problem = NO_USER
        elif problem == 0 and spans[2, e] == spans[3, e]:
            problem = NO_ITEM
        elif problem == 0:
            number, is_hard = np.float32(1), False
            if value >= 0:
                lo, hi = value_from, value_to
                problem, number, is_hard = find_value(text, lo, hi)
            values[e] = number
            if is_hard:
                hard[n_hard, 0], hard[n_hard, 1], hard[n_hard, 2] = e, lo, hi
                n_hard += 1
        if problem:
            bad[n_bad, 0], bad[n_bad, 1], bad[n_bad, 2], bad[n_bad, 3] = line, problem, lo, hi
            n_bad += 1
        else:
            e += 1
        at += 1
        line += 1
    return e, line, n_bad, n_hard


@jit
def parse_row(text, at, sep, first, missing, row, place, hard, n_hard):
    """The numbers of a line from field ``first`` on; ``place`` is that of ``row[0]`` in all values.

    Returns the end of the line, how many fields there are, what is wrong with one, its span, and the end of hard.
    """
    # f=field, j=column
    problem, f = 0, 0
    lo = hi = np.int64(at)
    while True:
        start, stop, at, _ = find_field(text, at, sep, False)
        j = f - first
        if problem == 0 and 0 <= j < len(row) and stop > start:
            lo, hi = start, stop
            problem, number, is_hard = find_value(text, start, stop)
            if is_hard:
                hard[n_hard, 0], hard[n_hard, 1], hard[n_hard, 2] = place + j, lo, hi
                n_hard += 1
            elif number != missing:
                row[j] = number
        f += 1
        if len(sep) == 0:
            at = skip_blanks(text, at, sep)
        if text[at] == NEWLINE:
            return at, f, problem, lo, hi, n_hard
        at += len(sep)


@jit
def parse_table(text, sep, columns, missing, values, bad, hard):
    """The numbers of every line that isn't blank; fields that are empty or ``missing`` become NaN.

    Parameters
    ----------
    columns : tuple of int
        Fields of a line, and how many at its beginning are passed over.
    values : float32 (lines, fields - passed over)
        Output; bad lines are rows too, all NaN.
    bad, hard
        As for ``parse_ratings``; places of ``hard`` count along the rows.

    Returns
    -------
    n_rows, n_bad, n_hard
    """
    # i=row
    n_fields, first = columns
    at = i = line = n_bad = n_hard = 0
    values[:] = np.nan
    while at < len(text):
        begin = after_blank_line(text, at)
        if begin > at:
            at = begin
            line += 1
            continue
        at, f, problem, lo, hi, end = parse_row(
            text, at, sep, first, missing, values[i], i * values.shape[1], hard, n_hard
        )
        if problem == 0 and f != n_fields:
            problem, lo = WRONG_COUNT, f
        if problem:
            bad[n_bad, 0], bad[n_bad, 1], bad[n_bad, 2], bad[n_bad, 3] = line, problem, lo, hi
            n_bad += 1
            values[i] = np.nan
        else:
            n_hard = end
        i += 1
        at += 1
        line += 1
    return i, n_bad, n_hard


@jit
def count_lines(text):
    n = 0
    for at in range(len(text)):
        n += text[at] == NEWLINE
    return n
