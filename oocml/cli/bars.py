"""How far an ingest or a synth is, and why it is slow the first time, on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import click

QUIET_S = 10.0
"""Seconds between lines where standard error is not a terminal."""


@contextmanager
def stages() -> Iterator[Callable[[str, int, int], None]]:
    """Yield a function of (stage, done, total): a bar per stage on a terminal, else a line now and then."""
    made = _Bars() if sys.stderr.isatty() else _Lines()
    try:
        yield made
    finally:
        made.close()


def compiling(uses: Sequence[str]) -> AbstractContextManager[None]:
    """Around what compiles its kernels as it goes: the first time, a line says so (see `compiling_here`)."""
    from oocml.engine.compilation import compiling_here
    from oocml.watch.plain import format_fields

    def say(text: str) -> None:
        click.echo(text if sys.stderr.isatty() else format_fields({"notice": text}), err=True)

    return compiling_here(uses, say)


class _Bars:
    def __init__(self) -> None:
        self._bar: Any = None
        self._stage = ""

    def __call__(self, stage: str, done: int, total: int) -> None:
        from tqdm import tqdm

        if stage != self._stage:
            self.close()
            self._stage = stage
            self._bar = tqdm(desc=stage, total=total, unit="", unit_scale=True, file=sys.stderr, leave=False)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


class _Lines:
    def __init__(self) -> None:
        self._stage = ""
        self._said = self._began = time.monotonic()

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._began = stage, now
        if now - self._said < QUIET_S:
            return
        self._said = now
        share = done / total if total else 1.0
        left = (now - self._began) * (1 / share - 1) if share else float("nan")
        click.echo(f"stage={stage} done={share:.0%} eta_s={left:.0f}", err=True)

    def close(self) -> None:
        pass
