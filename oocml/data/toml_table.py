"""Reading a TOML table with its types checked, so that a mistake in a file is named in one line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from oocml.errors import InputError

HEX64 = re.compile(r"[0-9a-f]{64}")


class TomlTable:
    """A TOML table whose keys are taken one by one with their types; what is left over is an error."""

    def __init__(self, table: Mapping[str, Any], where: str, path: str = "") -> None:
        self._left = dict(table)
        self._where = where
        self._path = path

    def fail(self, key: str, what: str) -> NoReturn:
        """Raise `InputError` naming file and key."""
        raise InputError(f"{self._where}: {self._path}{key} {what}")

    def _take(self, key: str, kind: type, words: str, default: Any) -> Any:
        if key not in self._left:
            if default is ...:
                self.fail(key, "is missing")
            return default
        value = self._left.pop(key)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self.fail(key, f"must be {words}, not {value!r}")
        return value

    def text(self, key: str, default: Any = ...) -> str:
        value: str = self._take(key, str, "a text", default)
        if default is ... and not value.strip():
            self.fail(key, "must not be empty")
        return value.strip()

    def one_of(self, key: str, names: Iterable[str], default: Any = ...) -> str:
        value = self.text(key, default)
        if value not in names:
            self.fail(key, f"is {value!r}; it must be one of {', '.join(names)}")
        return value

    def count(self, key: str) -> int | None:
        value: int | None = self._take(key, int, "a whole number", None)
        if value is not None and value < 1:
            self.fail(key, f"must be at least 1, not {value}")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        values = self._take(key, list, "a list of texts", [])
        if not all(isinstance(v, str) and v for v in values):
            self.fail(key, f"must be a list of texts, not {values!r}")
        return tuple(values)

    def sha256(self, key: str) -> str | None:
        value = self.text(key, default="")
        if value and not HEX64.fullmatch(value):
            self.fail(key, f"must be 64 lower-case hexadecimal digits, not {value!r}")
        return value or None

    def free(self, key: str, known: tuple[str, ...] | None = None) -> Mapping[str, Any]:
        value: dict[str, Any] = self._take(key, dict, "a table", {})
        for unknown in set(value) - set(known or value):
            self.fail(f"{key}.{unknown}", f"is not known; it must be one of {', '.join(known or ())}")
        return value

    def table(self, key: str) -> TomlTable:
        return TomlTable(self._take(key, dict, "a table", ...), self._where, f"{self._path}{key}.")

    def tables(self, key: str) -> list[tuple[str, TomlTable]]:
        subs = self._take(key, dict, "a table", {})
        for name, sub in subs.items():
            if not isinstance(sub, dict):
                self.fail(f"{key}.{name}", f"must be a table, not {sub!r}")
        return [
            (name, TomlTable(sub, self._where, f"{self._path}{key}.{name}.")) for name, sub in subs.items()
        ]

    def array(self, key: str) -> list[TomlTable]:
        subs = self._take(key, list, "a list of tables", [])
        if not all(isinstance(sub, dict) for sub in subs):
            self.fail(key, "must be a list of tables")
        return [TomlTable(sub, self._where, f"{self._path}{key}[{i}].") for i, sub in enumerate(subs)]

    def done(self) -> None:
        for key in self._left:
            self.fail(key, "is not a key of a spec")
