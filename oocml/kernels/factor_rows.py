"""Factor rows that many positive and negative items of a user touch in turn: see `oocml.kernels.robirank_implicit`."""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

from oocml.kernels.float_vectors import Floats, Row, every, is_row, over_row, zeros


@intrinsic  # type: ignore[misc]
def exchange(typingctx: Any, g: Any, x: Any, V: Any, j: Any, keep: Any, a: Any, U: Any, i: Any) -> Any:
    """g += x V[j], then V[j] = keep V[j] + a U[i]: what a user gets from an item and the item from the user.

    ``g`` is a vector as long as the rows; all are float32 and C-contiguous.
    """
    del typingctx, x, j, keep, a, i
    if not all(is_row(kind, types.float32) for kind in (g, V, U)):
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        of_user = Row(context, builder, signature.args[0], args[0])
        item = Row(context, builder, signature.args[2], args[2], args[3])
        user = Row(context, builder, signature.args[6], args[6], args[7])
        x, keep, a = (every(builder, args[place]) for place in (1, 4, 5))

        def body(k: Any, mask: Any, carried: list[Floats]) -> list[Floats]:
            v = item.load(k, mask)
            of_user.store((of_user.load(k, mask) + x * v).value, k, mask)
            item.store((keep * v + a * user.load(k, mask)).value, k, mask)
            return carried

        over_row(builder, item.size, [], body)
        return context.get_dummy_value()

    one = types.float32
    return types.void(g, one, V, types.intp, one, one, U, types.intp), codegen


@intrinsic  # type: ignore[misc]
def four_products(typingctx: Any, U: Any, i: Any, V: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """U[i] . V[j] for j = a, b, c, d."""
    del typingctx, i, a, b, c, d
    if not (is_row(U, types.float32) and is_row(V, types.float32)):
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        user = Row(context, builder, signature.args[0], args[0], args[1])
        items = [Row(context, builder, signature.args[2], args[2], args[place]) for place in range(3, 7)]

        def body(k: Any, mask: Any, totals: list[Floats]) -> list[Floats]:
            u = user.load(k, mask)
            return [total + u * item.load(k, mask) for total, item in zip(totals, items, strict=True)]

        totals = over_row(builder, user.size, [zeros(builder) for _ in items], body)
        return context.make_tuple(builder, signature.return_type, [total.sum() for total in totals])

    kinds = (U, types.intp, V, *[types.intp] * 4)
    return types.UniTuple(types.float32, 4)(*kinds), codegen
