"""Sparse rows and wide weights: x_i W and W += x_i g, over strips of columns that stay in registers.

What the compiler makes of such loops asks at every few entries of a row whether arrays overlap, and spends more on
remainders than on a row of 20 classes. Here a strip of columns is summed (or its gradient held) over all entries of a
row before the next strip: 64 columns at a time, and what is left in one strip, its end masked.

Matrices are C-contiguous float32. Indices are not checked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from oocml.kernels.float_vectors import INT64, LANES, Floats, Row, every, is_row, over_steps, splat, zeros

WIDEST = 4
"""Vectors of a strip."""
CHAINS = 4
"""Sums that are under way at a time: one would wait for its own last addition."""

Strip = Callable[[Any, list[Any]], None]
"""Makes the code for the columns from ``k`` on, a vector for each mask (None: all of its columns are there)."""


class Entries:
    """Arrays with a number for each entry of a row, from ``start`` on."""

    def __init__(self, context: Any, builder: Any, kind: Any, value: Any, start: Any) -> None:
        array = context.make_array(kind)(context, builder, value)
        self.builder, self.first = builder, builder.gep(array.data, [start])

    def load(self, e: Any) -> Any:
        return self.builder.load(self.builder.gep(self.first, [e]))

    def number(self, e: Any) -> Any:
        """One that is an index."""
        return self.builder.sext(self.load(e), INT64)


def over_strips(builder: Any, n: Any, strip: Strip) -> None:
    """Run ``strip`` over columns [0, n)."""

    def whole(k: Any, carried: list[Floats]) -> list[Floats]:
        strip(k, [None] * WIDEST)
        return carried

    width = WIDEST * LANES
    begun = builder.and_(n, ir.Constant(INT64, -width))
    over_steps(builder, begun, width, [], whole)
    left = builder.sub(n, begun)
    rest = builder.and_(left, INT64(LANES - 1))
    wide = ir.VectorType(INT64, LANES)
    mask = builder.icmp_unsigned("<", ir.Constant(wide, list(range(LANES))), splat(builder, rest, wide))
    end = builder.append_basic_block("end")
    # an odd case has a masked end
    case = builder.or_(
        builder.shl(builder.udiv(left, INT64(LANES)), INT64(1)),
        builder.zext(builder.icmp_unsigned("!=", rest, INT64(0)), INT64),
    )
    switch = builder.switch(case, end)
    for vectors in range(WIDEST):
        for masks in ([None] * vectors, [None] * vectors + [mask]):
            if masks:
                block = builder.append_basic_block("strip")
                switch.add_case(INT64(2 * vectors + len(masks) - vectors), block)
                builder.position_at_end(block)
                strip(begun, masks)
                builder.branch(end)
    builder.position_at_end(end)


def _at(builder: Any, k: Any, vector: int) -> Any:
    return builder.add(k, INT64(vector * LANES)) if vector else k


@intrinsic  # type: ignore[misc]
def weighted_rows(
    typingctx: Any,
    out: Any,
    offset: Any,
    W: Any,
    c0: Any,
    n: Any,
    indices: Any,
    data: Any,
    start: Any,
    stop: Any,
) -> Any:
    """out[:n] = offset[c0:c0 + n] + the sum of data[e] W[indices[e], c0:c0 + n] over the entries start to stop."""
    del typingctx, c0, n, start, stop
    if not (is_row(W, types.float32) and is_row(indices, types.int32) and is_row(data, types.float32)):
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        out, offset = (Row(context, builder, kinds[a], args[a]) for a in (0, 1))
        c0, n, start, stop = args[3], args[4], args[7], args[8]
        indices, data = (Entries(context, builder, kinds[a], args[a], start) for a in (5, 6))
        n_entries = builder.sub(stop, start)

        def strip(k: Any, masks: list[Any]) -> None:
            at = [_at(builder, builder.add(c0, k), v) for v in range(len(masks))]

            def added(e: Any, totals: list[Floats]) -> list[Floats]:
                row = Row(context, builder, kinds[2], args[2], indices.number(e))
                x = every(builder, data.load(e))
                return [total + x * row.load(*where) for total, *where in zip(totals, at, masks, strict=True)]

            def together(e: Any, totals: list[Floats]) -> list[Floats]:
                chains = []
                for u in range(unrolled):
                    chains += added(builder.add(e, INT64(u)), totals[u * len(masks) : (u + 1) * len(masks)])
                return chains

            unrolled = max(1, CHAINS // len(masks))
            even = builder.sub(n_entries, builder.urem(n_entries, INT64(unrolled)))
            totals = over_steps(builder, even, unrolled, [zeros(builder)] * (unrolled * len(masks)), together)
            sums = totals[: len(masks)]
            for u in range(1, unrolled):
                sums = [a + b for a, b in zip(sums, totals[u * len(masks) :], strict=False)]
            if unrolled > 1:
                sums = over_steps(builder, n_entries, 1, sums, added, begin=even)
            for v, mask in enumerate(masks):
                out.store((sums[v] + offset.load(at[v], mask)).value, _at(builder, k, v), mask)

        over_strips(builder, n, strip)
        return context.get_dummy_value()

    long, place = types.uint64, types.int64
    return types.void(out, offset, W, long, long, indices, data, place, place), codegen


@intrinsic  # type: ignore[misc]
def step_rows(
    typingctx: Any,
    W: Any,
    c0: Any,
    n: Any,
    E: Any,
    indices: Any,
    start: Any,
    stop: Any,
    keep: Any,
    scale: Any,
) -> Any:
    """W[j, c0:c0 + n] = keep[f] W[j, c0:c0 + n] + scale[f] E[:n] for j = indices[start + f]; no j comes twice."""
    del typingctx, c0, n, start, stop
    if not all(is_row(kind, types.float32) for kind in (W, E, keep, scale)) or not is_row(
        indices, types.int32
    ):
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        c0, n, start, stop = args[1], args[2], args[5], args[6]
        gradient = Row(context, builder, kinds[3], args[3])
        indices = Entries(context, builder, kinds[4], args[4], start)
        keep, scale = (Entries(context, builder, kinds[a], args[a], INT64(0)) for a in (7, 8))

        def strip(k: Any, masks: list[Any]) -> None:
            held = [gradient.load(_at(builder, k, v), mask) for v, mask in enumerate(masks)]

            def stepped(f: Any, carried: list[Floats]) -> list[Floats]:
                row = Row(context, builder, kinds[0], args[0], indices.number(f))
                a, b = (every(builder, numbers.load(f)) for numbers in (keep, scale))
                for v, mask in enumerate(masks):
                    at = _at(builder, builder.add(c0, k), v)
                    row.store((a * row.load(at, mask) + b * held[v]).value, at, mask)
                return carried

            over_steps(builder, builder.sub(stop, start), 1, [], stepped)

        over_strips(builder, n, strip)
        return context.get_dummy_value()

    long, place = types.uint64, types.int64
    return types.void(W, long, long, E, indices, place, place, keep, scale), codegen
