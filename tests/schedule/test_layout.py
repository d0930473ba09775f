"""Cutting ranges: everything is in one part, in order, and parts are as large as they should be."""

from __future__ import annotations

import itertools
import math

from hypothesis import given
from hypothesis import strategies as st

from oocml.models.protocol import Problem
from oocml.schedule.layout import (
    Layout,
    block_bounds,
    block_shape,
    even_bounds,
    group_bounds,
    n_blocks,
    stored_array,
)
from tests.schedule.strategies import SPECS, layouts


@given(total=st.integers(1, 10_000), n_parts=st.integers(1, 300), multiple=st.integers(1, 50))
def test_even_bounds_cut_all_of_a_range_into_nearly_equal_parts(total, n_parts, multiple):
    bounds = even_bounds(total, n_parts, multiple)
    sizes = [b - a for a, b in itertools.pairwise(bounds)]
    assert (bounds[0], bounds[-1]) == (0, total)
    assert min(sizes) > 0
    assert all(bound % multiple == 0 for bound in bounds[:-1])
    assert len(sizes) == min(n_parts, math.ceil(total / multiple))
    units = [math.ceil(size / multiple) for size in sizes]
    assert max(units) - min(units) <= 1


@given(sizes=st.lists(st.integers(0, 50), min_size=1, max_size=30), limit=st.integers(-5, 120))
def test_groups_are_as_large_as_the_limit_allows(sizes, limit):
    bounds = group_bounds(sizes, limit)
    groups = [sizes[a:b] for a, b in itertools.pairwise(bounds)]
    assert [size for group in groups for size in group] == sizes
    for group, following in itertools.pairwise(groups):
        assert group
        assert sum(group) + following[0] > limit, "the next item would have fitted"
    assert all(sum(group) <= limit or len(group) == 1 for group in groups)


@given(layouts())
def test_a_layout_survives_its_dictionary(layout):
    assert Layout.from_dict(layout.to_dict()) == layout
    values = layout.to_dict()
    assert type(values.pop("n_lanes")) is int
    assert all(type(bound) is int for bounds in values.values() for bound in bounds)


@given(layouts())
def test_blocks_cover_their_axes_once(layout):
    problem = Problem(layout.row_bounds[-1], 4, 1, None, None, None, "none", {}, 0)
    for q in range(layout.n_col_blocks):
        assert q in layout.stripe(layout.stripe_of(q))
    for spec in SPECS.values():
        covered = [block_bounds(spec, layout, index) for index in range(n_blocks(spec, layout))]
        lengths = {"row": layout.row_bounds[-1], "col": layout.col_bounds[-1], "shared": 0}
        lengths["cell"] = layout.row_bounds[-1] * layout.n_stripes
        assert sum(bounds.size for bounds in covered) == lengths[spec.kind]
        array = stored_array(spec, layout, problem)
        for index in range(array.n_blocks):
            shape = block_shape(spec, layout, problem, index)
            assert all(n <= most for n, most in zip(shape, array.block_shape, strict=True))
    for p in range(layout.n_row_blocks):
        assert layout.rows(p).size > 0
        assert len(layout.panels(p)) > 0
