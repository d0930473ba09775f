"""float16 to and from float32, many numbers at a time: numpy takes them one by one.

Numbers in half precision are the bits of uint16, for numba has no such type on CPUs.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from oocml.kernels.jit import jit


@intrinsic  # type: ignore[misc]
def widened(typingctx: Any, bits: Any) -> Any:
    """The float32 of a float16's bits."""
    del typingctx, bits

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        del context, signature
        return builder.fpext(builder.bitcast(args[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.uint16), codegen


@intrinsic  # type: ignore[misc]
def narrowed(typingctx: Any, value: Any) -> Any:
    """The bits of the float16 nearest to a float32."""
    del typingctx, value

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        del context, signature
        return builder.bitcast(builder.fptrunc(args[0], ir.HalfType()), ir.IntType(16))

    return types.uint16(types.float32), codegen


def widen(half: np.ndarray, out: np.ndarray) -> None:
    """Copy a float16 matrix to a float32 or float64 one."""
    _widen(half.view(np.uint16), out)


def narrow(values: np.ndarray, half: np.ndarray) -> None:
    """Copy a float32 or float64 matrix to a float16 one, and round it to what that holds."""
    _narrow(values, half.view(np.uint16))


@jit
def _widen(bits, out):  # type: ignore[no-untyped-def]
    for r in range(bits.shape[0]):
        for c in range(bits.shape[1]):
            out[r, c] = widened(bits[r, c])


@jit
def _narrow(values, bits):  # type: ignore[no-untyped-def]
    for r in range(bits.shape[0]):
        for c in range(bits.shape[1]):
            b = narrowed(np.float32(values[r, c]))
            bits[r, c] = b
            values[r, c] = widened(b)
