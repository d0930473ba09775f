"""Settings that are numbers, held to where they make sense: a training mustn't begin that can only fail."""

from __future__ import annotations

import math
from numbers import Real

from oocml.errors import UsageError
from oocml.models.protocol import Settings

LARGEST = 1e6
"""Of steps and regularisation: where float32 still has room, and all sense has ended long before."""
MOST_FACTORS = 100_000
CHOSEN = "leave it out to have it chosen"
"""Advice for settings whose default depends on the data."""


def require_above_zero(settings: Settings, name: str, most: float, advice: str) -> None:
    """Raise `UsageError` unless 0 < settings[name] <= most."""
    value = settings[name]
    if not (_is_number(value) and 0 < value <= most):
        raise UsageError(f"{name} is {value!r} but must be > 0 and at most {most:g}; {advice}")


def require_not_below_zero(settings: Settings, name: str, most: float, advice: str) -> None:
    """Raise `UsageError` unless 0 <= settings[name] <= most."""
    value = settings[name]
    if not (_is_number(value) and 0 <= value <= most):
        raise UsageError(f"{name} is {value!r} but must be 0 or more and at most {most:g}; {advice}")


def require_count(settings: Settings, name: str, least: int, most: int) -> None:
    """Raise `UsageError` unless settings[name] is a whole number from ``least`` to ``most``."""
    value = settings[name]
    if not (_is_number(value) and least <= value <= most and value == int(value)):
        raise UsageError(f"{name} is {value!r} but must be a whole number from {least} to {most:,}")


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and -math.inf < value < math.inf
