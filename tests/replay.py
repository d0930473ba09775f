"""What an asynchronous training committed, run again one task after another in the order of its commits."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import oocml
from oocml.engine import dispatch
from oocml.engine.driver import Driver
from oocml.schedule.nomad import Dispatch, Nomad


class Replay(Nomad):
    """Hands out dispatches in an order that was recorded."""

    orders: Iterator[list[int]]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.order = iter(next(Replay.orders))

    def take(self, worker: str) -> Dispatch | None:
        epoch, index = divmod(next(self.order), len(self._tasks))
        assert self._next[index] == epoch
        assert index in self.legal()
        return self._start(self._number(worker), index)


def recorded_orders(results: list[dict[str, Any]]) -> list[list[int]]:
    """The order of every pass, from a ledger's results."""
    return [result["order"] for result in results if "order" in result]


def replayed(run: Path, out: Path, arguments: dict[str, Any]) -> None:
    """Train again at ``out`` as ``run`` was, serially."""
    Replay.orders = iter(recorded_orders(oocml.open_run(run).store.read_ledger().results))

    def driver(*args: Any, **options: Any) -> Driver:
        return Driver(*args, **{**options, "schedule": "async"})

    with patch.object(dispatch, "Nomad", Replay), patch("oocml.training.Driver", partial(driver)):
        oocml.train(**{**arguments, "out": str(out), "schedule": "serial", "overwrite": True})
