"""A float32 base-2 logarithm that loops vectorise, as `oocml.kernels.exp` has an exponential."""

import numpy as np

from oocml.kernels.float_bits import MANTISSA_BITS, bits_of_float, float_of_bits
from oocml.kernels.jit import inlined_in_order

_SQRT_HALF = np.int32(0x3F3504F3)
_ONE = np.float32(1)
# fitted for log2(1 + x) / x on [1/sqrt 2 - 1, sqrt 2 - 1], relative error 3e-8 before rounding
_C = tuple(
    np.float32(c)
    for c in (
        1.442695,
        -0.7213473,
        0.48091063,
        -0.36070368,
        0.28791624,
        -0.23894495,
        0.21571584,
        -0.20726894,
        0.12583537,
    )
)


@inlined_in_order
def log2_32(x: np.float32) -> np.float32:
    """log2(x) in float32 of a positive normal number; cheap only inside loops, where it vectorises."""
    bits = bits_of_float(x)
    # from sqrt(1/2) on the exponent is that of the next power of two
    exponent = (bits - _SQRT_HALF) >> MANTISSA_BITS
    m = float_of_bits(bits - (exponent << MANTISSA_BITS)) - _ONE
    p = _C[8]
    p = p * m + _C[7]
    p = p * m + _C[6]
    p = p * m + _C[5]
    p = p * m + _C[4]
    p = p * m + _C[3]
    p = p * m + _C[2]
    p = p * m + _C[1]
    p = p * m + _C[0]
    return np.float32(exponent) + m * p
