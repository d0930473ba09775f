"""A command line to call, and an api that only records what it was asked."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import pytest

import oocml
from oocml.cli import run


class Output(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.out)


def call(*args: object) -> Output:
    """Call ``oocml`` in this process with the given arguments."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run([str(arg) for arg in args])
    return Output(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def run_cli() -> Callable[..., Output]:
    return call


@dataclass
class FakeApi:
    """Stands in for ``oocml.api``: every call is recorded; a stored exception is raised instead."""

    calls: list[tuple[str, tuple, dict]] = field(default_factory=list)
    answers: dict[str, Any] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)

        def call(*args: Any, **options: Any) -> Any:
            self.calls.append((name, args, options))
            answer = self.answers.get(name, {})
            if callable(answer):
                return answer(*args, **options)
            return answer

        return call

    def options(self, name: str) -> dict[str, Any]:
        """Of the only call of that name."""
        ((_, _, options),) = [call for call in self.calls if call[0] == name]
        return options


@pytest.fixture
def api(monkeypatch) -> FakeApi:
    fake = FakeApi()
    opened = FakeApi(fake.calls, fake.answers)
    for name in ("train", "resume", "open_run"):
        fake.answers[name] = opened
    fake.answers["open_dataset"] = lambda path: f"<dataset {path}>"
    fake.answers["plan"] = SimpleNamespace(to_dict=lambda: fake.answers["to_dict"])
    fake.answers["to_dict"] = {"fits": True, "bytes_total": 2**20}
    fake.answers["summary"] = {"epochs": 2, "history": [{"epoch": 1, "objective": 0.5}]}
    module = ModuleType("oocml.api")
    module.__getattr__ = fake.__getattr__
    monkeypatch.setitem(sys.modules, "oocml.api", module)
    monkeypatch.setattr(oocml, "api", module, raising=False)
    monkeypatch.setattr("oocml.cli.train.progress", lambda: ("<monitor>",))
    return fake
