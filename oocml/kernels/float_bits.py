"""A float32 and its bit pattern: what functions of floats are made of that are to vectorise in loops."""

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

MANTISSA_BITS = np.int32(23)
BIAS = np.int32(127)
"""Of exponents."""


def _bit_cast(source: Any, target: Any, doc: str) -> Any:
    """A compiled function between types of one size, which costs nothing."""

    def bit_cast(typingctx: Any, x: Any) -> Any:
        del typingctx, x

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            del signature
            return builder.bitcast(args[0], context.get_value_type(target))

        return target(source), codegen

    bit_cast.__doc__ = doc
    return intrinsic(bit_cast)


float_of_bits = _bit_cast(types.int32, types.float32, "The float32 whose bit pattern is the given int32.")
bits_of_float = _bit_cast(types.float32, types.int32, "The bit pattern of a float32 as an int32.")
