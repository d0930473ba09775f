"""One entry whose responsibilities are those of a few topics, eight or a multiple: see `oocml.kernels.lda_support`."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from oocml.kernels.digamma import exp_digamma_product
from oocml.kernels.float_vectors import (
    EIGHT,
    INT32,
    INT64,
    LANES,
    Elements,
    Floats,
    Row,
    every,
    is_row,
    over_eights,
    over_row,
    splat,
    zeros,
)
from oocml.kernels.lda_entry import LEAST_WEIGHT

_FLOATS = types.float32
_KEPT = (types.float32, types.uint16)
_PLACES = (types.uint8, types.uint16)
_WORDS = ir.VectorType(INT32, LANES)
_FLAGS = ir.IntType(LANES)


class _Topics:
    """Row t of a C-contiguous matrix of uint8 or uint16."""

    def __init__(self, context: Any, builder: Any, kind: Any, value: Any, t: Any) -> None:
        array = context.make_array(kind)(context, builder, value)
        self.builder = builder
        start = builder.bitcast(array.data, ir.IntType(8).as_pointer())
        start = builder.gep(start, [builder.mul(t, builder.extract_value(array.strides, 0))])
        self.start = builder.bitcast(start, ir.IntType(kind.dtype.bitwidth).as_pointer())
        self.size = builder.extract_value(array.shape, 1)

    def load(self, k: Any) -> list[Any]:
        """Numbers k to k + 7."""
        b = self.builder
        addresses = (b.gep(self.start, [b.add(k, INT64(n))]) for n in range(EIGHT))
        return [b.zext(b.load(address), INT64) for address in addresses]


@intrinsic  # type: ignore[misc]
def cvb0_weights_on(
    typingctx: Any, e: Any, index: Any, z: Any, t: Any, G: Any, i: Any, L: Any, j: Any, inverse: Any
) -> Any:
    """`cvb0_weights` for the topics of index[t], whose responsibilities are z[t]."""
    del typingctx, t, i, j
    if not (
        is_row(index, *_PLACES) and is_row(z, *_KEPT) and all(is_row(a, _FLOATS) for a in (e, G, L, inverse))
    ):
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        a = signature.args
        to, inv = Row(context, builder, a[0], args[0]), Row(context, builder, a[8], args[8])
        topics = _Topics(context, builder, a[1], args[1], args[3])
        own, g, w = (Row(context, builder, a[n], args[n], args[m]) for n, m in ((2, 3), (4, 5), (6, 7)))

        def body(k: Any, carried: list[Floats]) -> list[Floats]:
            at, x = topics.load(k), own.load(k, lanes=EIGHT)
            own_g, own_w, by = (Elements(row, at).load() for row in (g, w, inv))
            weight = ((own_g - x) * (own_w - x) * by).larger(LEAST_WEIGHT)
            to.store(weight.value, k)
            return [carried[0] + weight]

        return over_eights(builder, topics.size, [zeros(builder, EIGHT)], body)[0].sum()

    n = types.intp
    return _FLOATS(e, index, z, n, G, n, L, n, inverse), codegen


@intrinsic  # type: ignore[misc]
def esvi_weights_on(
    typingctx: Any, e: Any, index: Any, t: Any, G: Any, i: Any, L: Any, j: Any, inverse: Any
) -> Any:
    """`esvi_weights` for the topics of index[t], without a shift."""
    del typingctx, t, i, j
    if not (is_row(index, *_PLACES) and all(is_row(a, _FLOATS) for a in (e, G, L, inverse))):
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        a = signature.args
        to, inv = Row(context, builder, a[0], args[0]), Row(context, builder, a[7], args[7])
        topics = _Topics(context, builder, a[1], args[1], args[2])
        g, w = (Row(context, builder, a[n], args[n], args[n + 1]) for n in (3, 5))

        def body(k: Any, carried: list[Floats]) -> list[Floats]:
            at = topics.load(k)
            x, y, by = (Elements(row, at).load() for row in (g, w, inv))
            weight = exp_digamma_product(x, y, zeros(builder, EIGHT)) * by
            to.store(weight.value, k)
            return [carried[0] + weight]

        return over_eights(builder, topics.size, [zeros(builder, EIGHT)], body)[0].sum()

    n = types.intp
    return _FLOATS(e, index, n, G, n, L, n, inverse), codegen


@intrinsic  # type: ignore[misc]
def renew_on(
    typingctx: Any,
    e: Any,
    c: Any,
    count: Any,
    index: Any,
    z: Any,
    t: Any,
    G: Any,
    i: Any,
    L: Any,
    j: Any,
) -> Any:
    """`renew` for the topics of index[t], whose responsibilities are z[t]."""
    del typingctx, c, count, t, i, j
    if not (is_row(index, *_PLACES) and is_row(z, *_KEPT) and all(is_row(a, _FLOATS) for a in (e, G, L))):
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        a = signature.args
        weights = Row(context, builder, a[0], args[0])
        topics = _Topics(context, builder, a[3], args[3], args[5])
        own, g, w = (Row(context, builder, a[n], args[n], args[m]) for n, m in ((4, 5), (6, 7), (8, 9)))
        scale, n_tokens = every(builder, args[1], EIGHT), every(builder, args[2], EIGHT)

        def body(k: Any, carried: list[Floats]) -> list[Floats]:
            kept, new = own.rounded(weights.load(k, lanes=EIGHT) * scale)
            change = (new - own.load(k, lanes=EIGHT)) * n_tokens
            own.store(kept, k)
            at = topics.load(k)
            for row in (g, w):
                elements = Elements(row, at)
                elements.store(elements.load() + change)
            return carried

        over_eights(builder, own.size, [], body)
        return context.get_dummy_value()

    n = types.intp
    return types.void(e, _FLOATS, _FLOATS, index, z, n, G, n, L, n), codegen


def _above(builder: Any, x: Floats, least: Any) -> Any:
    """A bit for every element, set where its own bits as a whole number are above ``least``: 16 bits in all."""
    bits = builder.bitcast(x.value, _WORDS)
    return builder.bitcast(builder.icmp_signed(">", bits, splat(builder, least, _WORDS)), _FLAGS)


@intrinsic  # type: ignore[misc]
def count_above(typingctx: Any, e: Any, least: Any) -> Any:
    """How many elements of ``e``, whose length is a multiple of `LANES`, have bits above ``least``.

    Floats that are not negative are ordered as their bits are.
    """
    del typingctx, least
    if not is_row(e, _FLOATS):
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        row = Row(context, builder, signature.args[0], args[0])

        def body(k: Any, mask: Any, carried: list[Floats]) -> list[Floats]:
            found = builder.ctpop(_above(builder, row.load(k, mask), args[1]))
            return [Floats(builder, builder.add(carried[0].value, builder.zext(found, INT32)))]

        return over_row(builder, row.size, [Floats(builder, INT32(0))], body)[0].value

    return types.int32(e, types.int32), codegen


@intrinsic  # type: ignore[misc]
def flags_above(typingctx: Any, e: Any, k: Any, least: Any) -> Any:
    """A bit for each of the elements k to k + 15 of ``e``, set where its bits are above ``least``."""
    del typingctx, k, least
    if not is_row(e, _FLOATS):
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        row = Row(context, builder, signature.args[0], args[0])
        return builder.zext(_above(builder, row.load(args[1]), args[2]), INT64)

    return types.int64(e, types.intp, types.int32), codegen


@intrinsic  # type: ignore[misc]
def lowest_flag(typingctx: Any, flags: Any) -> Any:
    """Place of the lowest bit that is set, of a number that is not 0."""
    del typingctx, flags

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        del context, signature
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), codegen
