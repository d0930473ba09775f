import itertools
import pickle
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oocml.data import tokens, vocabulary
from oocml.errors import UsageError


def tokens_of(words):
    return tokens.tokenize(tokens.split(" ".join(words).encode() + b"\n", classed=False, min_token=1))


def counted(words):
    table = vocabulary.WordTable()
    table.add(tokens_of(words))
    return table


def as_counter(table):
    return Counter(dict(zip(table.words(), table.counts.tolist(), strict=True)))


WORDS = st.lists(st.text(alphabet="abé", min_size=1, max_size=4), max_size=200)


@given(first=WORDS, second=WORDS)
def test_counts_are_those_of_counter_and_survive_merge_and_pickle(first, second):
    table = counted(first)
    table.merge(pickle.loads(pickle.dumps(counted(second))))
    assert as_counter(table) == Counter(first) + Counter(second)
    assert table.words() == list(dict.fromkeys(first + second))
    table.add(tokens_of(first))
    assert as_counter(table) == Counter(first) + Counter(second) + Counter(first)


def test_table_grows_beyond_its_first_room():
    words = [f"word{i}" * (1 + i % 5) for i in range(5000)]
    table = counted(words + words[::2])
    assert as_counter(table) == Counter(words + words[::2])
    np.testing.assert_array_equal(table.find(tokens_of(words[::-1])), np.arange(5000)[::-1])


def test_one_very_long_word_is_kept_whole():
    words = ["a", "x" * 100_000, "b"]
    assert counted(words).words() == words


@given(words=WORDS, min_count=st.integers(1, 4), limit=st.one_of(st.none(), st.integers(1, 20)))
def test_chosen_words_are_the_most_frequent_ones_sorted(words, min_count, limit):
    kept = [(-n, word) for word, n in Counter(words).items() if n >= min_count]
    want = sorted(word for _, word in sorted(kept)[:limit])
    assert vocabulary.choose_words(counted(words), min_count, limit) == want


def test_words_out_of_the_vocabulary_have_no_column():
    table = vocabulary.table_of(["ab", "abc", "é"])
    np.testing.assert_array_equal(table.find(tokens_of(["abc", "abd", "é", "a", "ab"])), [1, -1, 2, -1, 0])
    np.testing.assert_array_equal(vocabulary.table_of([]).find(tokens_of(["a"])), [-1])


def test_a_word_given_twice_is_refused():
    with pytest.raises(UsageError, match="1 of 3 words occur twice"):
        vocabulary.table_of(["a", "b", "a"])


def test_pruning_drops_the_rarest_and_says_how_many():
    words = [f"w{i}" for i in range(100) for _ in range(1 + i // 10)]
    table = counted(words)
    assert table.prune(100) == 0
    assert table.prune(50) == 80
    assert as_counter(table) == Counter({word: n for word, n in Counter(words).items() if n > 8})
    table.add(tokens_of(["w0", "w99"]))
    assert as_counter(table)["w0"] == 1
    assert as_counter(table)["w99"] == 11


def test_pruning_words_of_equal_counts_keeps_half_the_limit():
    table = counted([f"w{i}" for i in range(100)])
    assert table.prune(60) == 70
    assert table.n_words == 30


@given(rows=st.lists(st.lists(st.integers(0, 6), max_size=8), max_size=6))
def test_rows_hold_the_count_of_each_of_their_words(rows):
    indptr = np.r_[0, np.cumsum([len(row) for row in rows], dtype=np.int64)].astype(np.int64)
    X = vocabulary.count_rows(np.array(list(itertools.chain.from_iterable(rows)), np.int32), indptr, 7)
    assert X.indptr.size == len(rows) + 1
    for i, row in enumerate(rows):
        entries = slice(X.indptr[i], X.indptr[i + 1])
        got = list(zip(X.indices[entries].tolist(), X.data[entries].tolist(), strict=True))
        assert got == list(Counter(row).items())


def test_buckets_spread_and_stay_within_their_number():
    found = tokens_of([f"word{i}" for i in range(4096)])
    columns = vocabulary.hashed_columns(found, 1024)
    assert columns.min() >= 0
    assert columns.max() < 1024
    # A random spread of 4,096 words leaves about 1,024 * exp(-4) = 19 buckets empty.
    assert np.unique(columns).size > 980
