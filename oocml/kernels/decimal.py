"""Decimal text to the nearest double, in integer arithmetic only.

The method is Lemire's ("Number parsing at a gigabyte per second", Software: Practice and Experience 51, 2021): the
mantissa, at most 19 digits in a 64-bit word, is multiplied by a 128-bit power of five; the upper bits of the product
are the double's, and the few cases that they cannot decide are left to Python's ``float``.
"""

import numpy as np

from oocml.kernels.jit import jit

MIN_POWER, MAX_POWER = -342, 308
"""Powers of ten outside give zero or infinity, whatever the mantissa."""

OK, NOT_A_NUMBER, HARD, TINY, HUGE = 0, 1, 2, 3, 4
"""HARD: well-formed, but only ``float`` can say which double is nearest. TINY: below the smallest normal double.
HUGE: beyond the largest."""

_MAX_DIGITS = 19


def _power_of_five(q):
    """The 128 leading bits of 5**q: rounded down for q >= 0, up for q < 0."""
    if q >= 0:
        power = 5**q
        shift = 128 - power.bit_length()
        return power << shift if shift >= 0 else power >> -shift
    divisor = 5**-q
    bits = divisor.bit_length()
    if q >= -27:
        return (1 << (bits + 127)) // divisor + 1
    reciprocal = (1 << (2 * bits + 128)) // divisor + 1
    return reciprocal >> (reciprocal.bit_length() - 128)


_POWERS = [_power_of_five(q) for q in range(MIN_POWER, MAX_POWER + 1)]
POWER_HIGH = np.array([p >> 64 for p in _POWERS], np.uint64)
POWER_LOW = np.array([p & (2**64 - 1) for p in _POWERS], np.uint64)

U0, U1, U2, U3 = np.uint64(0), np.uint64(1), np.uint64(2), np.uint64(3)
U9, U10, U32, U52, U63 = np.uint64(9), np.uint64(10), np.uint64(32), np.uint64(52), np.uint64(63)
LOW_32 = np.uint64(0xFFFFFFFF)
LOW_9 = np.uint64(0x1FF)
ALL_ONES = np.uint64(0xFFFFFFFFFFFFFFFF)
HIDDEN_BIT = np.uint64(1 << 52)
EXACT = np.uint64(1 << 53)


@jit
def multiply(a, b):
    """High and low word of a 64 x 64 bit product."""
    a0, a1 = a & LOW_32, a >> U32
    b0, b1 = b & LOW_32, b >> U32
    low, mid, other, high = a0 * b0, a0 * b1, a1 * b0, a1 * b1
    carry = ((low >> U32) + (mid & LOW_32) + (other & LOW_32)) >> U32
    return high + (mid >> U32) + (other >> U32) + carry, a * b


@jit
def leading_zeros(w):
    """Zero bits above the highest set bit of a non-zero word."""
    zeros = 0
    for step in (32, 16, 8, 4, 2, 1):
        if (w >> np.uint64(64 - step)) == U0:
            w <<= np.uint64(step)
            zeros += step
    return zeros


@jit
def scale_by_ten(w, q):
    """The double nearest to w * 10**q as (status, value); the value is 0 unless the status is OK."""
    if w == U0:
        return OK, 0.0
    if q == 0 and w <= EXACT:
        return OK, np.float64(w)
    if q < MIN_POWER:
        return TINY, 0.0
    if q > MAX_POWER:
        return HUGE, 0.0
    zeros = leading_zeros(w)
    w <<= np.uint64(zeros)
    high, low = multiply(w, POWER_HIGH[q - MIN_POWER])
    if (high & LOW_9) == LOW_9:
        more, _ = multiply(w, POWER_LOW[q - MIN_POWER])
        low += more
        if low < more:
            high += U1
    if low == ALL_ONES and (q < -27 or q > 55):
        return HARD, 0.0
    top = high >> U63
    mantissa = high >> (top + U9)
    # 217706 / 2**16 is log2(10); 1023 is the bias of a double's exponent
    exponent = ((217706 * q) >> 16) + 63 + np.int64(top) - zeros + 1023
    if exponent <= 0:
        return TINY, 0.0
    half_way = low <= U1 and -4 <= q <= 23 and (mantissa & U3) == U1
    if half_way and (mantissa << (top + U9)) == high:
        mantissa -= U1
    mantissa = (mantissa + (mantissa & U1)) >> U1
    if mantissa >= (HIDDEN_BIT << U1):
        mantissa = HIDDEN_BIT
        exponent += 1
    if exponent >= 2047:
        return HUGE, 0.0
    bits = (mantissa - HIDDEN_BIT) | (np.uint64(exponent) << U52)
    return OK, np.uint64(bits).view(np.float64)


@jit
def parse_number(text, at):
    """The decimal number that begins at ``text[at]``: (status, value, index of the first byte after it).

    ``[+-] digits [. digits] [e [+-] digits]`` with at least one digit; nan and inf are no numbers. The text must
    go on with a byte that isn't part of the number, such as a newline.
    """
    negative = text[at] == 45
    if negative or text[at] == 43:
        at += 1
    w, q, digits, seen = U0, 0, 0, False
    cut = False
    while np.uint8(text[at] - 48) < 10:
        seen = True
        if digits < _MAX_DIGITS:
            w = w * U10 + np.uint64(text[at] - 48)
            digits += w != U0
        else:
            q += 1
            cut = True
        at += 1
    if text[at] == 46:
        at += 1
        while np.uint8(text[at] - 48) < 10:
            seen = True
            if digits < _MAX_DIGITS:
                w = w * U10 + np.uint64(text[at] - 48)
                digits += w != U0
                q -= 1
            else:
                cut = True
            at += 1
    if not seen:
        return NOT_A_NUMBER, 0.0, at
    if text[at] == 101 or text[at] == 69:
        at += 1
        minus = text[at] == 45
        if minus or text[at] == 43:
            at += 1
        if np.uint8(text[at] - 48) >= 10:
            return NOT_A_NUMBER, 0.0, at
        power = 0
        while np.uint8(text[at] - 48) < 10:
            if power < 100_000:
                power = power * 10 + np.int64(text[at] - 48)
            at += 1
        q += -power if minus else power
    status, value = scale_by_ten(w, q)
    if cut:  # the digits beyond the 19th matter only if the next mantissa gives another double
        above, other = scale_by_ten(w + U1, q)
        if above != status or other != value:
            return HARD, 0.0, at
    return status, -value if negative else value, at
