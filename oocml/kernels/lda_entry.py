"""One entry of a document-word matrix and its responsibilities: weights, renewal, entropy. See `oocml.kernels.lda`."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from oocml.kernels.digamma import digamma_exponent, exp_digamma_product, log
from oocml.kernels.float_vectors import LANES, VECTOR, Floats, Row, every, is_row, over_row, zeros

LEAST_WEIGHT = 1e-12
"""Of CVB0, where rounding may leave less than nothing."""

_FLOATS = types.float32
_KEPT = (types.float32, types.uint16)


@intrinsic  # type: ignore[misc]
def cvb0_weights(typingctx: Any, e: Any, z: Any, t: Any, G: Any, i: Any, L: Any, j: Any, inverse: Any) -> Any:
    """e = (G[i] - z[t]) (L[j] - z[t]) inverse; returns the sum.

    ``e`` and ``inverse`` are vectors as long as a row, rounded up to `LANES`.
    """
    del typingctx, t, i, j
    if not (is_row(z, *_KEPT) and all(is_row(a, _FLOATS) for a in (e, G, L, inverse))):
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        a = signature.args
        to, inv = Row(context, builder, a[0], args[0]), Row(context, builder, a[7], args[7])
        own, g, w = (Row(context, builder, a[n], args[n], args[n + 1]) for n in (1, 3, 5))

        def body(k: Any, mask: Any, carried: list[Floats]) -> list[Floats]:
            x = own.load(k, mask)
            weight = ((g.load(k, mask) - x) * (w.load(k, mask) - x) * inv.load(k)).larger(LEAST_WEIGHT)
            weight = weight.where(mask)
            to.store(weight.value, k)
            return [carried[0] + weight]

        return over_row(builder, own.size, [zeros(builder)], body)[0].sum()

    n = types.intp
    return _FLOATS(e, z, n, G, n, L, n, inverse), codegen


@intrinsic  # type: ignore[misc]
def esvi_weights(typingctx: Any, e: Any, G: Any, i: Any, L: Any, j: Any, inverse: Any, shift: Any) -> Any:
    """e = exp(psi(G[i]) + psi(L[j])) 2^shift inverse; returns the sum."""
    del typingctx, i, j, shift
    if not all(is_row(a, _FLOATS) for a in (e, G, L, inverse)):
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        a = signature.args
        to, inv = Row(context, builder, a[0], args[0]), Row(context, builder, a[5], args[5])
        g, w = (Row(context, builder, a[n], args[n], args[n + 1]) for n in (1, 3))
        by = every(builder, args[6])

        def body(k: Any, mask: Any, carried: list[Floats]) -> list[Floats]:
            weight = exp_digamma_product(g.load(k, mask), w.load(k, mask), by) * inv.load(k)
            weight = weight.where(mask)
            to.store(weight.value, k)
            return [carried[0] + weight]

        return over_row(builder, g.size, [zeros(builder)], body)[0].sum()

    n = types.intp
    return _FLOATS(e, G, n, L, n, inverse, _FLOATS), codegen


@intrinsic  # type: ignore[misc]
def largest_exponent(typingctx: Any, G: Any, i: Any, L: Any, j: Any) -> Any:
    """The largest of the rows' powers of two (`digamma_exponent`)."""
    del typingctx, i, j
    if not all(is_row(a, _FLOATS) for a in (G, L)):
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        a = signature.args
        g, w = (Row(context, builder, a[n], args[n], args[n + 1]) for n in (0, 2))
        least = Floats(builder, ir.Constant(VECTOR, [-3e38] * LANES))

        def body(k: Any, mask: Any, carried: list[Floats]) -> list[Floats]:
            return [carried[0].larger(digamma_exponent(g.load(k, mask), w.load(k, mask)))]

        return over_row(builder, g.size, [least], body)[0].largest()

    n = types.intp
    return _FLOATS(G, n, L, n), codegen


@intrinsic  # type: ignore[misc]
def renew(typingctx: Any, e: Any, c: Any, count: Any, z: Any, t: Any, G: Any, i: Any, L: Any, j: Any) -> Any:
    """z[t] = c e, rounded to what it is kept in; G[i] and L[j] += count times its change."""
    del typingctx, c, count, t, i, j
    if not (is_row(z, *_KEPT) and all(is_row(a, _FLOATS) for a in (e, G, L))):
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        a = signature.args
        weights = Row(context, builder, a[0], args[0])
        own, g, w = (Row(context, builder, a[n], args[n], args[n + 1]) for n in (3, 5, 7))
        scale, n_tokens = every(builder, args[1]), every(builder, args[2])

        def body(k: Any, mask: Any, carried: list[Floats]) -> list[Floats]:
            kept, new = own.rounded(weights.load(k) * scale)
            change = (new - own.load(k, mask)) * n_tokens
            own.store(kept, k, mask)
            for row in (g, w):
                row.store((row.load(k, mask) + change).value, k, mask)
            return carried

        over_row(builder, own.size, [], body)
        return context.get_dummy_value()

    n = types.intp
    return types.void(e, _FLOATS, _FLOATS, z, n, G, n, L, n), codegen


@intrinsic  # type: ignore[misc]
def entropy_row(typingctx: Any, z: Any, t: Any) -> Any:
    """Minus the sum of z log z over row t."""
    del typingctx, t
    if not is_row(z, *_KEPT):
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        row = Row(context, builder, signature.args[0], args[0], args[1])

        def body(k: Any, mask: Any, carried: list[Floats]) -> list[Floats]:
            x = row.load(k, mask)
            return [carried[0] - x * log(x.larger(1e-30))]

        return over_row(builder, row.size, [zeros(builder)], body)[0].sum()

    return _FLOATS(z, types.intp), codegen


@intrinsic  # type: ignore[misc]
def unpack(typingctx: Any, e: Any, z: Any, t: Any) -> Any:
    """e = z[t]; returns the sum. ``e`` is a vector as long as a row, rounded up to `LANES`."""
    del typingctx, t
    if not (is_row(z, *_KEPT) and is_row(e, _FLOATS)):
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        to = Row(context, builder, signature.args[0], args[0])
        row = Row(context, builder, signature.args[1], args[1], args[2])

        def body(k: Any, mask: Any, carried: list[Floats]) -> list[Floats]:
            x = row.load(k, mask)
            to.store(x.value, k)
            return [carried[0] + x]

        return over_row(builder, row.size, [zeros(builder)], body)[0].sum()

    return _FLOATS(e, z, types.intp), codegen


@intrinsic  # type: ignore[misc]
def log_of(typingctx: Any, x: Any) -> Any:
    """Natural logarithm of a positive normal float32, to 1e-6 of 1 or of it; a tenth of the time of the library's."""
    del typingctx, x

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        del context, signature
        result = log(every(builder, args[0])).value
        return builder.extract_element(result, ir.Constant(ir.IntType(32), 0))

    return _FLOATS(_FLOATS), codegen
