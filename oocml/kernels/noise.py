"""Random numbers that depend on a seed and a place alone, so that any part of an array can be made by itself."""

# mypy: disable-error-code="no-untyped-def"

import numpy as np

from oocml.kernels.jit import jit
from oocml.kernels.planted_rows import mix

_U = np.uint64
_GOLDEN = _U(0x9E3779B97F4A7C15)
_LOW = _U(0xFFFF)
_MEAN = np.float32(2 * 65535)
_INVERSE_SD = np.float32(1 / np.sqrt(4 * (2.0**32 - 1) / 12))


@jit
def fill_noise(out, seed, lo, scale):
    """out[i, k] = scale times a number of mean 0 and variance 1, drawn for (seed, lo + i, k).

    The sum of four uniform numbers of 16 bits: near enough to normal for a start (kurtosis 2.7, at most 3.46 away
    from 0), and several times as fast.
    """
    # i=row, k=factor, z=64 random bits
    scale = np.float32(scale)
    for i in range(out.shape[0]):
        row = mix(_U(seed) + mix(_U(lo + i) * _GOLDEN))
        for k in range(out.shape[1]):
            z = mix(row + _U(k) * _GOLDEN)
            total = (z & _LOW) + ((z >> _U(16)) & _LOW) + ((z >> _U(32)) & _LOW) + (z >> _U(48))
            out[i, k] = (np.float32(np.int64(total)) - _MEAN) * _INVERSE_SD * scale


@jit
def visiting_order(indptr, seed):
    """Rows that have entries, in a random order (Fisher and Yates's shuffle)."""
    # i=row, r=place, z=64 random bits
    n = 0
    order = np.empty(len(indptr) - 1, np.int32)
    for i in range(len(indptr) - 1):
        if indptr[i] < indptr[i + 1]:
            order[n] = i
            n += 1
    z = mix(_U(seed))
    for r in range(n - 1, 0, -1):
        z = mix(z + _GOLDEN)
        other = np.int64((z >> _U(32)) * _U(r + 1) >> _U(32))
        order[r], order[other] = order[other], order[r]
    return order[:n]
