"""Lines of a user and its items, a block of whole lines at a time."""

# mypy: disable-error-code="no-untyped-def"

import numpy as np

from oocml.kernels.delimited import NEWLINE, NO_ITEM, NO_USER, find_field, is_blank, skip_blanks
from oocml.kernels.jit import jit


@jit
def count_fields(text, sep):
    """At least as many as there are fields in the block, and how many lines it has."""
    # at=byte
    n_fields, n_lines = 0, 0
    for at in range(len(text)):
        ends = text[at] == NEWLINE
        n_lines += ends
        n_fields += ends or (is_blank(text[at]) if len(sep) == 0 else text[at] == sep[0])
    return n_fields, n_lines


@jit
def parse_interactions(text, sep, users, items, user_of, bad):
    """Find the user and the items of every line that isn't blank.

    Parameters
    ----------
    text : uint8, ending in a newline
    sep : uint8
        Between fields; none: runs of blanks.
    users : int64 (2, lines)
        Output: start and stop of the user of each line that has one.
    items : int64 (2, fields)
        Output: start and stop of each item.
    user_of : int64 (fields,)
        Output: place of each item's user in ``users``.
    bad : int64 (lines, 2)
        Output: number of the line within the block, and what is wrong with it.

    Returns
    -------
    n_users, n_items, n_bad
    """
    # i=user, e=item
    at = i = e = line = n_bad = 0
    while at < len(text):
        at = skip_blanks(text, at, sep)
        if text[at] == NEWLINE:
            at, line = at + 1, line + 1
            continue
        first, problem = e, 0
        start, stop, at, _ = find_field(text, at, sep, False)
        users[0, i], users[1, i] = start, stop
        if start == stop:
            problem = NO_USER
        while True:
            if len(sep) == 0:
                at = skip_blanks(text, at, sep)
            if text[at] == NEWLINE:
                break
            start, stop, at, _ = find_field(text, at + len(sep), sep, False)
            if start == stop and problem == 0:
                problem = NO_ITEM
            items[0, e], items[1, e], user_of[e] = start, stop, i
            e += 1
        if problem:
            bad[n_bad, 0], bad[n_bad, 1] = np.int64(line), np.int64(problem)
            n_bad, e = n_bad + 1, first
        else:
            i += 1
        at, line = at + 1, line + 1
    return i, e, n_bad
