"""The cache against a model of it, and as the plan predicts it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from oocml.store.cache import PinnedCache

operations = st.lists(
    st.tuples(
        st.sampled_from(["get", "take", "put"]), st.integers(0, 4), st.integers(0, 2), st.integers(0, 40)
    ),
    max_size=40,
)


@given(capacity=st.integers(0, 100), operations=operations)
def test_it_never_holds_more_than_it_may_and_never_answers_with_another_version(capacity, operations):
    cache, held = PinnedCache(capacity), {}
    for number, (what, key, version, size) in enumerate(operations):
        known = held.get(key)
        expected = known[1] if known and known[0] == version else None
        if what == "put" and known and known[0] == version:
            assert not cache.put(key, number, size, version), (
                "the first one stays: somebody may be reading it"
            )
        elif what == "put":
            held.pop(key, None)
            fits = sum(entry[2] for entry in held.values()) + size <= capacity
            assert cache.put(key, number, size, version) == fits
            if fits:
                held[key] = (version, number, size)
        elif what == "get":
            assert cache.get(key, version) == expected
        else:
            assert cache.take(key, version) == expected
            held.pop(key, None)
        assert cache.used_bytes == sum(entry[2] for entry in held.values()) <= capacity
        assert all(cache.holds(key, entry[1]) for key, entry in held.items())


def test_a_cyclic_scan_hits_as_often_as_there_is_room():
    cache, hits = PinnedCache(60), 0
    for _ in range(11):
        for key in range(10):
            if cache.get(key) is None:
                cache.put(key, key + 1, 10)
            else:
                hits += 1
    assert hits == 10 * 6
