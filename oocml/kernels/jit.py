"""The one place where numba's options are chosen.

``nogil`` so that panels are read while a kernel runs; ``cache`` so that workers start warm; ``error_model="numpy"``
because Python's division check keeps loops that divide from vectorising; ``fastmath`` without the flags that assume
away NaN and infinity, because non-finite values must be seen, not optimised out.

A helper that kernels call is ``inlined``. Where LLVM is free to leave the call, a kernel that was compiled in this
process calls the helper as optimised by itself, and one that was loaded from numba's cache the helper as optimised
once more with the kernel: sums in another order, and bits that depend on which process compiled.
"""

from numba import njit

FASTMATH = {"nsz", "arcp", "contract", "afn", "reassoc"}

jit = njit(nogil=True, cache=True, error_model="numpy", fastmath=FASTMATH)
inlined = njit(nogil=True, cache=True, error_model="numpy", fastmath=FASTMATH, forceinline=True)
inlined_in_order = njit(
    nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz"}, forceinline=True
)
"""For sums that must not be taken in another order than is written."""


def warm_up() -> None:
    """Load what numba loads before its first call in a process (half a second), so that no task has to wait for it."""
    from numba.core.registry import cpu_target

    cpu_target.typing_context.refresh()
    cpu_target.target_context.refresh()
