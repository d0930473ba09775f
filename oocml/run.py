"""A finished or interrupted run, opened for use."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from oocml.config import used_settings
from oocml.data.dataset import Dataset
from oocml.engine.executors import OnDask
from oocml.engine.in_process import InProcess
from oocml.engine.outputs import RunArrays, export_run
from oocml.engine.predictions import Batch, write_predictions
from oocml.engine.score import check_columns, evaluate, predict
from oocml.engine.state_reader import StateReader
from oocml.engine.summary import summarize
from oocml.errors import DamagedStore, UsageError
from oocml.models.registry import load_model
from oocml.schedule.crew import TASKS_AT_ONCE
from oocml.schedule.layout import n_blocks
from oocml.store.run import RunStore

if TYPE_CHECKING:
    import dask.array


TEXT_ENDINGS = (".txt", ".tsv")
"""Of predictions; other formats are not written, and should not seem to be."""


class Run:
    """One training, as it is on disk. Using it changes nothing in it.

    Parameters
    ----------
    path
        The run's folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.store = RunStore(path)
        self.path: Path = self.store.path

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def config(self) -> dict[str, Any]:
        """What the run was begun with."""
        return self.store.config

    @property
    def history(self) -> list[dict[str, Any]]:
        """One record per finished epoch: ``epoch``, ``seconds``, ``objective`` (running), ``valid`` ..."""
        return self.store.read_ledger().history

    @property
    def checkpoints(self) -> dict[str, int]:
        """Kept checkpoints by name, with their epoch."""
        return self.store.read_ledger().kept

    def summary(self) -> dict[str, Any]:
        """The keys of ``oocml report --json``."""
        ledger = self.store.read_ledger()
        totals = ledger.totals
        seconds = totals.get("seconds", 0.0)
        whole = (
            "read_bytes",
            "write_bytes",
            "spared_write_bytes",
            "planned_read_bytes",
            "planned_write_bytes",
        )
        return {
            "run": str(self.path),
            "model": self.config["model"],
            "epochs": len(ledger.history),
            "finished": ledger.finished,
            "seconds": seconds,
            "startup_seconds": totals.get("startup_seconds"),
            "objective": ledger.objective,
            "history": ledger.history,
            **{name: int(totals.get(name, 0)) for name in whole},
            "peak_memory_bytes": int(totals.get("peak_memory_bytes", 0)),
            "planned_memory_bytes": int(totals.get("planned_memory_bytes", 0)),
            "updates_per_s": totals.get("updates", 0) / seconds if seconds else None,
            "checkpoints": ledger.kept,
            **_settings(self.config),
            "config": self.config,
        }

    def top_columns(self, at: str | int | None = None) -> dict[str, list[dict[str, Any]]]:
        """The columns that weigh most in each part of the model, for models that say so: see `engine.summary`."""
        return summarize(self.store, self._checkpoint(at))

    def evaluate(
        self,
        data: Dataset | str | os.PathLike[str],
        *,
        at: str | int | None = None,
        memory: int | None = None,
        workers: int | None = None,
        prune: float = 0.0,
        per_query: bool = False,
    ) -> dict[str, Any]:
        """Metrics on a dataset.

        Parameters
        ----------
        at
            "best" (the default if epochs were validated), "last", or the number of a kept epoch.
        memory
            Bytes for blocks and rows on a host (default: half of the run's memory in this process; as little as can
            be on the workers of an open `distributed.Client`).
        per_query
            Add a list of records, ``per_query``: what each query scores, or each of a random sample of very many
            (``per_query_sampled``).
        """
        return evaluate(
            self.store,
            _dataset(data),
            checkpoint=self._checkpoint(at),
            prune=prune,
            intervals=True,
            per_query=per_query,
            **self._workers(memory, workers),
        )

    def predict(
        self,
        data: Dataset | str | os.PathLike[str],
        out: str | os.PathLike[str],
        *,
        top: int | None = None,
        at: str | int | None = None,
        memory: int | None = None,
        workers: int | None = None,
        overwrite: bool = False,
    ) -> dict[str, Any]:
        """Write predictions to .zarr or text, in the order of the rows of the dataset's source.

        Parameters
        ----------
        top
            Classes, or items that the row did not have in training, best first. Default: the model's own; for models
            of given entries (`mf`) these are predicted, by row and column.

        Raises
        ------
        UsageError
            For an ending of ``out`` that is neither .zarr nor one of text, or ``top`` of a model that predicts one
            number a row.
        """
        check_ending(out)
        data = _dataset(data)
        batches = predict(
            self.store,
            data,
            checkpoint=self._checkpoint(at),
            top=top or 0,
            **self._workers(memory, workers),
        )
        if top:
            batches = ranked(batches, self.config["model"])
        counts = write_predictions(batches, out, self.store, data, overwrite=overwrite)
        return {"out": str(out), **counts, **({"top": top} if top else {})}

    def export(
        self,
        out: str | os.PathLike[str],
        *,
        prune: float | None = None,
        at: str | int | None = None,
        data: Dataset | str | os.PathLike[str] | None = None,
        overwrite: bool = False,
    ) -> dict[str, Any]:
        """Write the model as plain arrays to .zarr or .npz; ``prune`` drops small weights.

        With ``data``, metrics before and after pruning come along.
        """
        if data is not None and not prune:
            raise UsageError(
                "data is what pruned weights are scored on; add prune (--prune), or leave data out"
            )
        if data is not None:
            data = _dataset(data)
            check_columns(self.store, data)
        result: dict[str, Any] = {"out": str(out)}
        result |= export_run(
            self.store, out, checkpoint=self._checkpoint(at), prune=prune or 0.0, overwrite=overwrite
        )
        if prune:
            arrays = RunArrays(self.store, self._checkpoint(at))
            sizes = {name: np.dtype(spec.dtype).itemsize for name, spec in arrays.specs.items()}
            result["bytes_before"] = sum(n * math.prod(arrays.shape(name)) for name, n in sizes.items())
            if data is not None:
                result["before"] = self.evaluate(data, at=at)
                result["after"] = self.evaluate(data, at=at, prune=prune)
        return result

    def arrays(self, at: str | int | None = None) -> dict[str, dask.array.Array]:
        """The exported state as lazy Dask arrays, joined along rows or columns, in the order of exports."""
        arrays = RunArrays(self.store, self._checkpoint(at))
        return {name: arrays.lazy(name) for name in arrays.names}

    def info(self, deep: bool = False) -> dict[str, Any]:
        """What the run is and whether it is whole: all chunks there in their size; ``deep`` compares every checksum."""
        ledger, model = self.store.read_ledger(), load_model(self.store.model_reference)
        problem = None
        try:
            _verify(StateReader(self.store), deep)
            for checkpoint in ledger.kept:
                _verify(RunArrays(self.store, checkpoint), deep)  # keeps what is exported
        except DamagedStore as error:
            problem = str(error)
        return {
            "kind": "run",
            "path": str(self.path),
            "model": self.config["model"],
            "n_rows": self.config["problem"]["n_rows"],
            "n_cols": self.config["problem"]["n_features"],
            "nnz": self.config["problem"]["nnz"],
            **({} if model.tiles else {f"n_{model.col_axis}": self.config["layout"]["col_bounds"][-1]}),
            "n_row_blocks": len(self.config["layout"]["row_bounds"]) - 1,
            "n_col_blocks": len(self.config["layout"]["col_bounds"]) - 1,
            "epochs": len(ledger.history),
            "of_epochs": sum(ledger.segments),
            "finished": ledger.finished,
            "checkpoints": ledger.kept,
            **_settings(self.config),
            "bytes": sum(entry.stat().st_size for entry in self.path.rglob("*") if entry.is_file()),
            "whole": problem is None,
            "problem": problem,
        }

    def state_at(self, at: str | int | None = None) -> dict[str, Any]:
        """Which state ``at`` means: its ``checkpoint`` ("best", "last", another kept one) and its ``epoch``.

        ``partial`` is there, and True, where the next epoch was begun: some blocks are ahead of that epoch's.
        """
        name, ledger = self._checkpoint(at), self.store.read_ledger()
        if name:
            return {"checkpoint": name, "epoch": ledger.kept[name]}
        partial = {"partial": True} if ledger.within_epoch else {}
        return {"checkpoint": "last", "epoch": len(ledger.history), **partial}

    def _checkpoint(self, at: str | int | None) -> str | None:
        kept = self.checkpoints
        if at is None:
            return "best" if "best" in kept else None
        if at == "last":
            return None
        if at in kept:
            return str(at)
        for name, epoch in kept.items():
            if str(epoch) == str(at):
                return name
        have = ", ".join(f"{name} (epoch {epoch})" for name, epoch in kept.items())
        raise UsageError(f"{self.path} keeps no state {at!r}; it has last{', ' + have if have else ''}")

    def _workers(self, memory: int | None, workers: int | None) -> dict[str, Any]:
        """Who scores, and the memory that each task of theirs may take."""
        from oocml.engine.cluster import running_client, workers_per_host

        client = running_client()
        if client is None:
            memory = memory or max(self.config["task_memory"], self.config["memory"] // 2)
            return {"executor": InProcess(), "memory": memory, "n_workers": workers or 1}
        if memory is not None:
            memory //= TASKS_AT_ONCE * workers_per_host(client)
        executor = OnDask(client, self.config["model"])
        return {"executor": executor, "memory": memory, "n_workers": workers or executor.n_slots}


def check_ending(out: str | os.PathLike[str]) -> None:
    """Raise `UsageError` for predictions whose file seems to be wanted in a format that isn't written."""
    ending = Path(out).suffix
    if ending != ".zarr" and ending not in TEXT_ENDINGS:
        known = ", ".join(TEXT_ENDINGS)
        raise UsageError(
            f"predictions go to .zarr (arrays) or to text ({known}), not to {os.fspath(out)!r}; give such an ending"
        )


def ranked(batches: Iterator[Batch], model: str) -> Iterator[Batch]:
    """Batches of predictions, if they are a ranking; `UsageError` if there is one number a row."""
    for row_ids, outputs in batches:
        if outputs.keys() == {"values"}:
            raise UsageError(
                f"{model} predicts one number for a row here, so there is no --top of anything; leave it out"
            )
        yield row_ids, outputs
        del row_ids, outputs  # before the next ones are made


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    """All settings as they are used, and which of them the user gave, or the model chose."""
    used = used_settings(config)
    named = {by: [name for name, setting in used.items() if setting.by == by] for by in ("given", "chosen")}
    values = {name: setting.value for name, setting in used.items()}
    return {"settings": values, "given_settings": named["given"], "chosen_settings": named["chosen"]}


def _verify(reader: StateReader, deep: bool) -> None:
    """Raise `DamagedStore` if a chunk is missing or of another size, or with ``deep`` not what was written."""
    for spec in reader.specs.values():
        for index in range(n_blocks(spec, reader.layout)):
            if deep:
                reader.block(spec.name, index)
            else:
                reader.check_files(spec.name, index)


def _dataset(data: Dataset | str | os.PathLike[str]) -> Dataset:
    return data if isinstance(data, Dataset) else Dataset.open(data)
