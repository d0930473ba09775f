"""Lines of delimited numbers, one of which may be a label, a block of whole lines at a time."""

import numpy as np

from oocml.kernels.decimal import HARD, HUGE, NOT_A_NUMBER, TINY, parse_number
from oocml.kernels.delimited import FLOAT32_OVERFLOW, NEWLINE, after_blank_line, find_field, skip_blanks
from oocml.kernels.jit import jit

WRONG_COUNT, EMPTY, BAD_VALUE, OUT_OF_RANGE, OPEN_QUOTE, AFTER_QUOTE = 1, 2, 3, 4, 6, 7
"""What is wrong with a line; the last two are `delimited.find_field`'s."""


@jit
def parse_cell(text, start, stop):
    """The number in a field: problem, value, and whether only Python can convert it."""
    if stop == start:
        return EMPTY, 0.0, False
    status, value, end = parse_number(text, start)
    if status == NOT_A_NUMBER or end != stop:
        return BAD_VALUE, 0.0, False
    if status == HUGE or abs(value) >= FLOAT32_OVERFLOW:
        return OUT_OF_RANGE, 0.0, False
    return 0, (0.0 if status == TINY else value), status == HARD


@jit
def parse_line(text, at, sep, layout, i, values, labels, spans, hard, n_hard):
    """The fields of the line from ``text[at]`` on, as row ``i``.

    Returns the end of the line, how many fields there are, what is wrong with one, its span, and the end of hard.
    """
    # f=field, j=column
    quoted, _, label, named = layout
    problem, f, j = 0, 0, 0
    lo = hi = np.int64(at)
    while True:
        start, stop, at, fault = find_field(text, at, sep, quoted)
        if problem == 0 and (fault or j < values.shape[1] or f == label):
            lo, hi = start, stop
            problem = fault
            if problem == 0 and f == label and named:
                spans[0, i], spans[1, i] = start, stop
            elif problem == 0:
                problem, number, is_hard = parse_cell(text, start, stop)
                place = i * values.shape[1] + j
                if f == label:
                    labels[i] = number
                    place = -1 - i
                else:
                    values[i, j] = number
                if is_hard:
                    hard[n_hard, 0], hard[n_hard, 1], hard[n_hard, 2] = place, start, stop
                    n_hard += 1
            if problem == EMPTY:
                lo = f + 1
        j += f != label
        f += 1
        if fault:
            break
        if len(sep) == 0:
            at = skip_blanks(text, at, sep)
        if text[at] == NEWLINE:
            break
        at += len(sep)
    while text[at] != NEWLINE:
        at += 1
    return at, f, problem, lo, hi, n_hard


@jit
def parse_rows(text, sep, layout, values, labels, spans, row_at, bad, hard):
    """The rows of all lines that aren't blank.

    Parameters
    ----------
    text : uint8, ending in a newline
        Doubled quotes in it are closed up.
    layout : tuple
        Whether fields may be in quotes; fields of a line; which of them, from 0, is the label (-1: none), and whether
        labels are names.
    values : float32 (lines, columns)
        Output.
    labels : float64 (lines,)
    spans : int64 (2, lines)
        Outputs: the label, or where its name starts and stops.
    row_at : int64 (lines,)
        Output: where each row begins.
    bad : int64 (lines, 4)
        Number of the line within the block, what is wrong, and where (WRONG_COUNT: how many fields; EMPTY: which
        field, from 1); such lines give no row.
    hard : int64 (fields, 3)
        Place in ``values`` along its rows, or -1 - place in ``labels``, and span of what Python must convert.

    Returns
    -------
    n_rows, n_lines, n_bad, n_hard
    """
    # i=row
    n_fields = layout[1]
    at = i = line = n_bad = n_hard = 0
    while at < len(text):
        begin = after_blank_line(text, at)
        if begin > at:
            at = begin
            line += 1
            continue
        row_at[i] = at
        at, f, problem, lo, hi, end = parse_line(
            text, at, sep, layout, i, values, labels, spans, hard, n_hard
        )
        if f != n_fields and problem not in (OPEN_QUOTE, AFTER_QUOTE):
            problem, lo = WRONG_COUNT, np.int64(f)
        if problem:
            bad[n_bad, 0], bad[n_bad, 1], bad[n_bad, 2], bad[n_bad, 3] = line, problem, lo, hi
            n_bad += 1
        else:
            n_hard = end
            i += 1
        at += 1
        line += 1
    return i, line, n_bad, n_hard
