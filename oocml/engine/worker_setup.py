"""What a worker process of our own cluster does first (a Dask preload)."""

from __future__ import annotations

import signal
from typing import Any


def dask_setup(worker: Any) -> None:
    """Leave Ctrl-C to the driver.

    A terminal sends it to every process; a worker that obeyed would print a traceback and take its tasks along,
    while the driver wants to end it in order.
    """
    del worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
