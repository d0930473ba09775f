"""What was asked of the ranking experiments."""

from __future__ import annotations

from dataclasses import dataclass

from .bench_options import Options


@dataclass(frozen=True)
class Chosen(Options):
    """What was asked for."""

    sets: tuple[str, ...] = ()
    """Names of data sets; none: those that a section has goals for."""
    seed: int = 0
