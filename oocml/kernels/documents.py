"""Lines of word counts, a block of whole lines at a time: an entry a line (docword) or a document a line (LDA-C).

All numbers are natural ones, fields are apart by blanks or tabs, and lines without fields mean nothing.
"""

import numpy as np

from oocml.kernels.jit import jit
from oocml.kernels.svmlight import COLON, NEWLINE, ends_field, parse_natural, skip_blanks

MAX_COUNT = 2**31 - 1
NOT_NUMBERS, NO_DOCUMENT, NO_WORD, OUT_OF_RANGE, NOT_SORTED, NO_LENGTH, WRONG_LENGTH = 1, 2, 3, 4, 5, 6, 7
"""What is wrong with a line."""


@jit
def parse_three(text, at):
    """Three numbers that fill a line from ``text[at]`` on (negative where there is none), and where parsing ended."""
    first, at = parse_natural(text, at, MAX_COUNT)
    second, third = np.int64(-1), np.int64(-1)
    if first >= 0 and ends_field(text[at]):
        second, at = parse_natural(text, skip_blanks(text, at), MAX_COUNT)
        if second >= 0 and ends_field(text[at]):
            third, at = parse_natural(text, skip_blanks(text, at), MAX_COUNT)
            at = skip_blanks(text, at)
            if text[at] != NEWLINE and third >= 0:
                third = np.int64(-1)
    return first, second, third, at


@jit
def parse_docword(text, sizes, document, word, count, bad):
    """The entries of a block of ``document word count`` lines, both numbered from 1.

    Parameters
    ----------
    text : uint8, ending in a newline
    sizes : tuple of int
        Documents, words, and the document of the line before the block (0: none).
    document, word : int64, int32 (lines,)
        Outputs. Documents never decrease; words keep their numbers.
    count : float32 (lines,)
        Output; zeros are left out.
    bad : int64 (lines, 3)
        Line within the block, what is wrong, and where the line begins in ``text`` (NOT_SORTED: the document before).

    Returns
    -------
    n_entries, n_lines, n_bad, n_given
        ``n_given``: lines that have fields.
    """
    # e=entry
    n_documents, n_words, previous = sizes
    at = e = line = n_bad = n_given = 0
    while at < len(text):
        begin = skip_blanks(text, at)
        if text[begin] == NEWLINE:
            at = begin + 1
            line += 1
            continue
        n_given += 1
        d, w, n, at = parse_three(text, begin)
        problem, where = 0, begin
        if d == -2 or w == -2 or n == -2:
            problem = OUT_OF_RANGE
        elif d < 0 or w < 0 or n < 0:
            problem = NOT_NUMBERS
        elif not 1 <= d <= n_documents:
            problem = NO_DOCUMENT
        elif not 1 <= w <= n_words:
            problem = NO_WORD
        elif d < previous:
            problem, where = NOT_SORTED, previous
        if problem:
            bad[n_bad, 0], bad[n_bad, 1], bad[n_bad, 2] = line, problem, where
            n_bad += 1
        else:
            previous = d
            if n > 0:
                document[e], word[e], count[e] = d, w, n
                e += 1
        while text[at] != NEWLINE:
            at += 1
        at += 1
        line += 1
    return e, line, n_bad, n_given


@jit
def parse_counts(text, at, n_words, indices, data, e):
    """The ``word:count`` fields from ``text[at]`` to the end of the line.

    Returns where parsing ended, the end of entries, how many fields there are, the largest word (-1: none), and what
    is wrong.
    """
    # e=entry
    n_fields, highest = 0, np.int64(-1)
    while True:
        at = skip_blanks(text, at)
        if text[at] == NEWLINE:
            return at, e, n_fields, highest, 0
        field = at
        w, at = parse_natural(text, at, MAX_COUNT)
        if w == -2:
            return field, e, n_fields, highest, OUT_OF_RANGE
        if w < 0 or text[at] != COLON:
            return field, e, n_fields, highest, NOT_NUMBERS
        if n_words >= 0 and w >= n_words:
            return field, e, n_fields, highest, NO_WORD
        n, at = parse_natural(text, at + 1, MAX_COUNT)
        if n == -2:
            return field, e, n_fields, highest, OUT_OF_RANGE
        if n < 0 or not ends_field(text[at]):
            return field, e, n_fields, highest, NOT_NUMBERS
        n_fields += 1
        highest = max(highest, w)
        if n > 0:
            indices[e], data[e] = w, n
            e += 1


@jit
def parse_ldac(text, n_words, indptr, indices, data, row_at, bad):
    """The documents of a block of ``length word:count ...`` lines, words numbered from 0.

    Parameters
    ----------
    text : uint8, ending in a newline
    n_words
        Words of the vocabulary, -1 where there is none.
    indptr, indices, data, row_at
        Outputs, by lines and colons. ``row_at``: where each document begins in ``text``. Counts of 0 are left out.
    bad : int64 (lines, 4)
        Line within the block, what is wrong, and where in ``text`` (WRONG_LENGTH: number promised, number found).

    Returns
    -------
    n_documents, n_lines, n_bad, highest
        ``highest``: the largest word of good lines, -1 without any.
    """
    # i=document, e=entry
    at = i = line = n_bad = 0
    highest = np.int64(-1)
    indptr[0] = 0
    while at < len(text):
        begin = at
        at = skip_blanks(text, at)
        if text[at] != NEWLINE:
            where, found, end, e, largest, problem = at, 0, at, indptr[i], np.int64(-1), NO_LENGTH
            length, at = parse_natural(text, at, MAX_COUNT)
            if length >= 0 and ends_field(text[at]):
                end, e, found, largest, problem = parse_counts(text, at, n_words, indices, data, indptr[i])
                where, at = end, end
            if problem == 0 and found != length:
                problem, where = WRONG_LENGTH, length
            if problem:
                bad[n_bad, 0], bad[n_bad, 1], bad[n_bad, 2], bad[n_bad, 3] = line, problem, where, found
                n_bad += 1
            else:
                row_at[i] = begin
                i += 1
                indptr[i] = e
                highest = max(highest, largest)
        while text[at] != NEWLINE:
            at += 1
        at += 1
        line += 1
    return i, line, n_bad, highest
