"""Is every number finite? Asked of each block before it is stored."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from oocml.kernels.jit import jit


def all_finite(block: npt.NDArray[np.floating]) -> bool:
    """Whether a C-contiguous float16, float32 or float64 block holds no NaN and no infinity."""
    if block.dtype == np.float32:
        return bool(_max_bits32(block.reshape(-1).view(np.uint32)) < 0x7F800000)
    if block.dtype == np.float16:  # NumPy takes 70 times as long
        return bool(_max_bits16(block.reshape(-1).view(np.uint16)) < 0x7C00)
    return bool(np.isfinite(block).all())


def compiled_folder() -> Path | None:
    """Where numba keeps what it compiled of this package's kernels; None if it keeps nothing."""
    stats = getattr(_max_bits32, "stats", None)  # a plain function where numba is switched off
    return None if stats is None or stats.cache_path is None else Path(stats.cache_path)


@jit
def _max_bits32(bits):  # type: ignore[no-untyped-def]
    # without the sign, floats order as their bits do, and everything from 0x7F800000 up is not finite
    most = np.uint32(0)
    for e in range(bits.size):
        most = max(most, bits[e] & np.uint32(0x7FFFFFFF))
    return most


@jit
def _max_bits16(bits):  # type: ignore[no-untyped-def]
    most = np.uint16(0)
    for e in range(bits.size):
        most = max(most, np.uint16(bits[e] & np.uint16(0x7FFF)))
    return most
