"""What users write as text: sizes with a unit, and a model's settings. No imports beyond the standard library."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from typing import Any, Literal, NamedTuple

from oocml.errors import UsageError

UNITS = {
    "B": 1,
    **{f"{prefix}iB": 1024**power for power, prefix in enumerate("KMGTP", start=1)},
    **{f"{prefix}B": 1000**power for power, prefix in enumerate("kMGTP", start=1)},
}
"""Bytes per unit; spelling is checked without case."""

_UNITS_BY_LOWER_CASE = {name.lower(): factor for name, factor in UNITS.items()}
_SIZE = re.compile(r"\s*(?P<number>\d+(\.\d*)?|\.\d+)\s*(?P<unit>[A-Za-z]*)\s*")
UNSET = "auto"
"""How None is shown, and may be written: the model decides as it goes, or has no use for the setting."""
_TRUE = {"true", "yes", "on", "1"}
_FALSE = {"false", "no", "off", "0"}


def parse_size(size: str | int) -> int:
    """Bytes in a size such as ``"700MiB"`` or ``"2 GB"``; a whole number is taken as bytes.

    Raises
    ------
    UsageError
        If the text has no unit, an unknown one, or means less than one byte.
    """
    if isinstance(size, int):
        n_bytes = size
    else:
        match = _SIZE.fullmatch(size)
        if match is None:
            raise UsageError(f"{size!r} is not a size; write a number and a unit, for instance 700MiB or 2GB")
        unit = match["unit"]
        factor = _UNITS_BY_LOWER_CASE.get(unit.lower())
        if factor is None:
            fault = f"has the unknown unit {unit!r}" if unit else "has no unit"
            raise UsageError(f"size {size!r} {fault}; known units: {', '.join(UNITS)}")
        n_bytes = (
            int(float(match["number"]) * factor) if "." in match["number"] else int(match["number"]) * factor
        )
    if n_bytes < 1:
        raise UsageError(f"size {size!r} is less than one byte; give a positive size such as 700MiB")
    return n_bytes


def format_size(n_bytes: float) -> str:
    """A size for people, in binary units with three significant digits: ``"700 MiB"``, ``"1.46 GiB"``."""
    if n_bytes < 0:
        return "-" + format_size(-n_bytes)
    value, unit = float(n_bytes), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        if round(value) < 1000:
            break
        value, unit = value / 1024, larger
    decimals = 0 if unit == "B" or value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:.{decimals}f} {unit}"


def split_settings(pairs: Iterable[str]) -> dict[str, str]:
    """Names and values of ``name=value`` texts, as ``--set`` takes them."""
    settings: dict[str, str] = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        name = name.strip().replace("-", "_")
        if not sign or not name:
            raise UsageError(f"setting {pair!r} is not name=value; write for instance --set l2=1e-5")
        if name in settings:
            raise UsageError(f"setting {name} is given twice: {settings[name]} and {value.strip()}")
        settings[name] = value.strip()
    return settings


def complete_settings(given: Mapping[str, Any], defaults: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """All settings of a model: the defaults, replaced by what was given.

    A given value takes the type of the default; text is read as that type, so that the command line and
    Python may share one path. A default of None (chosen from the data) takes None, a number or text.

    Parameters
    ----------
    owner
        The model's name, for errors.

    Raises
    ------
    UsageError
        For a name that ``defaults`` doesn't have, or a value of another type.
    """
    for name in given:
        if name not in defaults:
            close = difflib.get_close_matches(name, defaults, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            known = ", ".join(sorted(defaults)) or "none"
            raise UsageError(f"{owner} has no setting {name}{hint} (known: {known})")
    return {
        name: _typed(given[name], default, f"{owner}: setting {name}") if name in given else default
        for name, default in defaults.items()
    }


def parse_settings(pairs: Iterable[str], defaults: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """The settings that ``name=value`` texts mean, typed; only the given ones."""
    given = split_settings(pairs)
    complete = complete_settings(given, defaults, owner)
    return {name: complete[name] for name in given}


class UsedSetting(NamedTuple):
    """A setting as a training uses it."""

    value: Any
    by: Literal["given", "default", "chosen"]
    """Who decided: the user, the default, or the model from the data."""

    def __str__(self) -> str:
        value = f"{self.value:.6g}" if isinstance(self.value, float) else str(self.value)
        value = UNSET if self.value is None else value
        return value if self.by == "default" else f"{value} ({self.by})"


def used_settings(config: Mapping[str, Any]) -> dict[str, UsedSetting]:
    """All settings by name, from the configuration of a run (``settings``, ``given_settings``, ``chosen_settings``)."""
    given, chosen = config.get("given_settings", ()), config.get("chosen_settings", {})
    used = {}
    for name, value in config.get("settings", {}).items():
        if value is None and name in chosen:
            used[name] = UsedSetting(chosen[name], "chosen")
        else:
            used[name] = UsedSetting(value, "given" if name in given else "default")
    return used


def _typed(value: Any, default: Any, where: str) -> Any:
    """``value`` as the type of ``default``."""
    if default is None:
        return _free(value, where)
    if isinstance(default, bool):
        return _boolean(value, where)
    if isinstance(default, int):
        return _whole(value, where)
    if isinstance(default, float):
        return _number(value, where)
    if isinstance(default, str):
        if not isinstance(value, str):
            raise UsageError(f"{where} must be text such as {default!r}, not {value!r}")
        return value
    return value


def _free(value: Any, where: str) -> Any:
    """A value whose default says nothing of its type: None, a boolean, a finite number or text."""
    if isinstance(value, Real) and not isinstance(value, bool):
        number = _number(value, where)
        return int(value) if isinstance(value, Integral) else number
    if not isinstance(value, str):
        return value
    lowered = value.lower()
    if lowered in {"none", UNSET, ""}:
        return None
    if lowered in {"true", "false"}:
        return lowered == "true"
    try:
        number = float(value)
    except ValueError:
        return value
    if not math.isfinite(number):
        raise UsageError(f"{where} must be finite, not {value}")
    return int(value) if re.fullmatch(r"[+-]?\d+", value) else number


def _boolean(value: Any, where: str) -> bool:
    lowered = str(value).lower()
    if lowered in _TRUE:
        return True
    if lowered in _FALSE:
        return False
    raise UsageError(f"{where} must be true or false, not {value!r}")


def _whole(value: Any, where: str) -> int:
    number = _number(value, where, "a whole number")
    if number != int(number):
        raise UsageError(f"{where} must be a whole number, not {value!r}")
    return int(value) if isinstance(value, Integral) else int(number)


def _number(value: Any, where: str, kind: str = "a number") -> float:
    try:
        number = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        raise UsageError(f"{where} must be {kind}, not {value!r}") from None
    if not math.isfinite(number):
        raise UsageError(f"{where} must be {kind}, not {value!r}")
    return number
