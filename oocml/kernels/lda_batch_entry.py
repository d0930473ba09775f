"""One entry whose responsibilities are added up and forgotten; see `oocml.kernels.lda_batch`."""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

from oocml.kernels.float_vectors import Floats, Row, every, is_row, over_row, zeros

LEAST = 1e-3
"""What is left at least of a sum without one of its tokens."""

_FLOATS = types.float32
_N = types.intp


@intrinsic  # type: ignore[misc]
def products(typingctx: Any, e: Any, G: Any, i: Any, L: Any, j: Any, inverse: Any) -> Any:
    """e = G[i] L[j] inverse; returns the sum. ``e`` and ``inverse`` are as long as a row, rounded up to `LANES`."""
    del typingctx, i, j
    if not all(is_row(a, _FLOATS) for a in (e, G, L, inverse)):
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        a = signature.args
        to, inv = Row(context, builder, a[0], args[0]), Row(context, builder, a[5], args[5])
        g, w = (Row(context, builder, a[n], args[n], args[n + 1]) for n in (1, 3))

        def body(k: Any, mask: Any, carried: list[Floats]) -> list[Floats]:
            weight = g.load(k, mask) * w.load(k, mask) * inv.load(k)
            to.store(weight.value, k)
            return [carried[0] + weight]

        return over_row(builder, g.size, [zeros(builder)], body)[0].sum()

    return _FLOATS(e, G, _N, L, _N, inverse), codegen


@intrinsic  # type: ignore[misc]
def excluding(typingctx: Any, e: Any, c: Any, G: Any, i: Any, L: Any, j: Any, inverse: Any) -> Any:
    """e = (G[i] - c e) (L[j] - c e) inverse; returns the sum."""
    del typingctx, c, i, j
    if not all(is_row(a, _FLOATS) for a in (e, G, L, inverse)):
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        a = signature.args
        to, inv = Row(context, builder, a[0], args[0]), Row(context, builder, a[6], args[6])
        g, w = (Row(context, builder, a[n], args[n], args[n + 1]) for n in (2, 4))
        scale = every(builder, args[1])

        def body(k: Any, mask: Any, carried: list[Floats]) -> list[Floats]:
            own = to.load(k) * scale
            rest = [(row.load(k, mask) - own).larger(LEAST) for row in (g, w)]
            weight = (rest[0] * rest[1] * inv.load(k)).where(mask)
            to.store(weight.value, k)
            return [carried[0] + weight]

        return over_row(builder, g.size, [zeros(builder)], body)[0].sum()

    return _FLOATS(e, _FLOATS, G, _N, L, _N, inverse), codegen


@intrinsic  # type: ignore[misc]
def add_both(typingctx: Any, e: Any, c: Any, G: Any, i: Any, L: Any, j: Any) -> Any:
    """G[i] += c e; L[j] += c e."""
    del typingctx, c, i, j
    if not all(is_row(a, _FLOATS) for a in (e, G, L)):
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        a = signature.args
        weights = Row(context, builder, a[0], args[0])
        rows = [Row(context, builder, a[n], args[n], args[n + 1]) for n in (2, 4)]
        scale = every(builder, args[1])

        def body(k: Any, mask: Any, carried: list[Floats]) -> list[Floats]:
            share = weights.load(k) * scale
            for row in rows:
                row.store((row.load(k, mask) + share).value, k, mask)
            return carried

        over_row(builder, rows[0].size, [], body)
        return context.get_dummy_value()

    return types.void(e, _FLOATS, G, _N, L, _N), codegen


@intrinsic  # type: ignore[misc]
def add_products(typingctx: Any, S: Any, j: Any, c: Any, E: Any, B: Any) -> Any:
    """S[j] += c E[0] B[j]."""
    del typingctx, j, c
    if not all(is_row(a, _FLOATS) for a in (S, E, B)):
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        a = signature.args
        to, of = (Row(context, builder, a[n], args[n], args[1]) for n in (0, 4))
        row, scale = (
            Row(context, builder, a[3], args[3], context.get_constant(_N, 0)),
            every(builder, args[2]),
        )

        def body(k: Any, mask: Any, carried: list[Floats]) -> list[Floats]:
            to.store((to.load(k, mask) + row.load(k, mask) * of.load(k, mask) * scale).value, k, mask)
            return carried

        over_row(builder, to.size, [], body)
        return context.get_dummy_value()

    return types.void(S, _N, _FLOATS, E, B), codegen
