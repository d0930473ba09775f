"""The one place where numba's options are chosen.

``nogil`` so that panels are read while a kernel runs; ``cache`` so that workers start warm; ``error_model="numpy"``
because Python's division check keeps loops that divide from vectorising; ``fastmath`` without the flags that assume
away NaN and infinity, because non-finite values must be seen, not optimised out.
"""

from numba import njit

FASTMATH = {"nsz", "arcp", "contract", "afn", "reassoc"}

jit = njit(nogil=True, cache=True, error_model="numpy", fastmath=FASTMATH)
