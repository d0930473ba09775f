"""Train models that fit in no one's memory: out of core, by Dask tasks over Zarr stores."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oocml.api import ingest, open_dataset, open_run, plan, resume, train
    from oocml.run import Run

__version__ = "0.1.0"
__all__ = ["Run", "__version__", "ingest", "open_dataset", "open_run", "plan", "resume", "train"]


def __getattr__(name: str) -> Any:
    # names are found when first used, so that `oocml --help` does not import Dask, Zarr and numba
    if name in __all__:
        return getattr(importlib.import_module("oocml.run" if name == "Run" else "oocml.api"), name)
    raise AttributeError(f"module 'oocml' has no attribute {name!r}")


def __dir__() -> list[str]:
    # what isn't found yet is listed too, so that Tab completes it
    return sorted({*globals(), *__all__})
