"""Sparse rows and wide weights: x_i W and W += x_i g, over strips of columns that stay in registers.

What the compiler makes of such loops asks at every few entries of a row whether arrays overlap, and spends more on
remainders than on a row of 20 classes. Here a strip of columns is summed (or its gradient held) over all entries of a
row before the next strip: 64 columns at a time, then what is left of whole vectors, of 8, of 4, and the last three
under a mask. Vectors that reach beyond a row, masked or not, cost more than another strip where rows are no multiple of
a cache line: they touch the next one. Visits against plain loops: 20 classes 1.3 times as fast (weights in the last
cache), 48 to 128 classes 1.25 (weights in memory), 256 1.07, 512 and more .93.

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

Strip = Callable[[Any, int, int, Any], None]
"""Makes the code for the columns from ``k`` on: so many vectors of so many lanes, under a mask or None."""


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

    def widest(k: Any, carried: list[Floats]) -> list[Floats]:
        strip(k, WIDEST, LANES, None)
        return carried

    over_steps(builder, _multiple(builder, n, WIDEST * LANES), WIDEST * LANES, [], widest)
    k = _multiple(builder, n, WIDEST * LANES)
    vectors = builder.udiv(builder.sub(n, k), INT64(LANES))
    for some in range(1, WIDEST):
        with builder.if_then(builder.icmp_unsigned("==", vectors, INT64(some))):
            strip(k, some, LANES, None)
    for lanes in (8, 4):
        k = _multiple(builder, n, 2 * lanes)
        with builder.if_then(builder.icmp_unsigned(">=", builder.sub(n, k), INT64(lanes))):
            strip(k, 1, lanes, None)
    k = _multiple(builder, n, 4)
    rest = builder.sub(n, k)
    wide = ir.VectorType(INT64, 4)
    mask = builder.icmp_unsigned("<", ir.Constant(wide, list(range(4))), splat(builder, rest, wide))
    with builder.if_then(builder.icmp_unsigned("!=", rest, INT64(0))):
        strip(k, 1, 4, mask)


def _multiple(builder: Any, n: Any, of: int) -> Any:
    """The largest multiple of a power of two up to n."""
    return builder.and_(n, ir.Constant(INT64, -of))


def _places(builder: Any, k: Any, vectors: int, lanes: int) -> list[Any]:
    return [builder.add(k, INT64(v * lanes)) for v in range(vectors)]


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
    floats = all(is_row(kind, types.float32) for kind in (out, offset, W, data))
    if not (floats and out.mutable and is_row(indices, types.int32)):
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        out, offset = (Row(context, builder, kinds[a], args[a]) for a in (0, 1))
        c0, n, start, stop = args[3], args[4], args[7], args[8]
        indices, data = (Entries(context, builder, kinds[a], args[a], start) for a in (5, 6))
        n_entries = builder.sub(stop, start)

        def strip(k: Any, vectors: int, lanes: int, mask: Any) -> None:
            at = _places(builder, builder.add(c0, k), vectors, lanes)

            def added(e: Any, totals: list[Floats]) -> list[Floats]:
                row = Row(context, builder, kinds[2], args[2], indices.number(e))
                x = every(builder, data.load(e), lanes)
                return [
                    total + x * row.load(place, mask, lanes) for total, place in zip(totals, at, strict=True)
                ]

            def together(e: Any, totals: list[Floats]) -> list[Floats]:
                chains = []
                for u in range(unrolled):
                    chains += added(builder.add(e, INT64(u)), totals[u * vectors : (u + 1) * vectors])
                return chains

            unrolled = max(1, CHAINS // vectors)
            even = builder.sub(n_entries, builder.urem(n_entries, INT64(unrolled)))
            nothing = [zeros(builder, lanes)] * (unrolled * vectors)
            totals = over_steps(builder, even, unrolled, nothing, together)
            sums = totals[:vectors]
            for u in range(1, unrolled):
                sums = [a + b for a, b in zip(sums, totals[u * vectors : (u + 1) * vectors], strict=True)]
            if unrolled > 1:
                sums = over_steps(builder, n_entries, 1, sums, added, begin=even)
            for total, place, to in zip(sums, at, _places(builder, k, vectors, lanes), strict=True):
                out.store((total + offset.load(place, mask, lanes)).value, to, mask)

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
    floats = all(is_row(kind, types.float32) for kind in (W, E, keep, scale))
    if not (floats and W.mutable and is_row(indices, types.int32)):
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        c0, n, start, stop = args[1], args[2], args[5], args[6]
        gradient = Row(context, builder, kinds[3], args[3])
        indices = Entries(context, builder, kinds[4], args[4], start)
        keep, scale = (Entries(context, builder, kinds[a], args[a], INT64(0)) for a in (7, 8))

        def strip(k: Any, vectors: int, lanes: int, mask: Any) -> None:
            at = _places(builder, builder.add(c0, k), vectors, lanes)
            held = [gradient.load(place, mask, lanes) for place in _places(builder, k, vectors, lanes)]

            def stepped(f: Any, carried: list[Floats]) -> list[Floats]:
                row = Row(context, builder, kinds[0], args[0], indices.number(f))
                a, b = (every(builder, numbers.load(f), lanes) for numbers in (keep, scale))
                for place, g in zip(at, held, strict=True):
                    row.store((b * g).plus_product(a, row.load(place, mask, lanes)).value, place, mask)
                return carried

            over_steps(builder, builder.sub(stop, start), 1, [], stepped)

        over_strips(builder, n, strip)
        return context.get_dummy_value()

    long, place = types.uint64, types.int64
    return types.void(W, long, long, E, indices, place, place, keep, scale), codegen
