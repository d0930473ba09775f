"""A run on disk: one Zarr group with its configuration, state arrays and ledger.

RUN.zarr/
  zarr.json        attributes "oocml": the configuration, fixed at creation
  state/NAME/      one Zarr array per state array, axes (block, stamp, ...)
  problem/NAME     what the model knows of its training data (small)
  order/, features/, rows/, names/   what else models of tiles need of it afterwards
  ledger           the current ledger; ledger.NAME: kept checkpoints
  events.jsonl     a log, decides nothing
  .lock            held by the one driver that may write
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from oocml.data.dataset import read_kind
from oocml.errors import InputError, UsageError
from oocml.store import replacing
from oocml.store.arrays import MAX_STAMP, StoredArray
from oocml.store.chunks import PARTIAL, require_hard_links
from oocml.store.ledger import STAMPS_PER_DRIVER, Ledger, read_ledger, write_ledger
from oocml.store.replacing import LEDGER, LOCK, held_lock, put_in_place, remove_leftovers, writing

SCHEMA = 1
CONFIG = "zarr.json"
TILE_NNZ = "tile_nnz"
"""Of what a run holds of its data: the stored entries of each tile."""


class RunStore:
    """An existing run.

    Parameters
    ----------
    path
        The run's folder.

    Raises
    ------
    InputError
        If there is no whole run.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(os.path.abspath(path))
        self._seen = self._look()
        kind, config = read_kind(self.path)
        if kind != "run":
            raise InputError(f"{self.path} is a {kind}, not a run")
        if config.get("schema") != SCHEMA:
            raise InputError(
                f"{self.path} has schema {config.get('schema')}, this version reads {SCHEMA}; upgrade oocml"
            )
        self.config: dict[str, Any] = config

    def _look(self) -> tuple[int, ...] | None:
        """What tells whether the file of the configuration is still the one that was read; None if there is none."""
        try:
            found = os.stat(self.path / CONFIG)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns

    @property
    def in_place(self) -> bool:
        """Whether it is still this run that is at its path: one look at a file, as long as nobody touches that."""
        now = self._look()
        if now is not None and now != self._seen:
            try:
                if read_kind(self.path)[1].get("run_id") != self.config["run_id"]:
                    return False
            except InputError:
                return False
            self._seen = now  # a copy of this run, or this one moved away and back
        return now is not None

    def require_in_place(self) -> None:
        """Raise `InputError` if its folder was taken away under a driver: nothing may be written there any more."""
        if not self.in_place:
            raise InputError(
                f"{self.path} was removed, moved or replaced while it was being trained; resume it where it is now, "
                "or train again"
            )

    @property
    def replaced(self) -> Path | None:
        """Where the run is whose place this one took, until this one has an epoch on disk."""
        old = replacing.set_aside(self.path)
        return old if old.exists() else None

    @property
    def has_epoch(self) -> bool:
        """Whether it has an epoch on disk, or all that its program asked for."""
        return replacing.has_epoch(self.path)

    def withdraw(self) -> None:
        """Leave no run, or the one whose place this one took; only the lock's holder may. Another run is left alone."""
        if self.in_place:
            replacing.withdraw(self.path)

    def let_go(self) -> None:
        """Remove the run whose place this one took, if this one has an epoch; only the lock's holder may."""
        replacing.let_go(self.path)

    @property
    def ledger_path(self) -> Path:
        return self.path / LEDGER

    def checkpoint_path(self, name: str) -> Path:
        return self.path / f"{LEDGER}.{name}"

    def read_ledger(self, checkpoint: str | None = None) -> Ledger:
        return read_ledger(self.checkpoint_path(checkpoint) if checkpoint else self.ledger_path)

    def write_ledger(self, ledger: Ledger, *, durable: bool = False) -> int:
        return write_ledger(self.ledger_path, ledger, durable=durable)

    @property
    def model_reference(self) -> str:
        """What `oocml.models.registry.load_model` takes; a user's own model is loaded from the run's copy.

        Raises
        ------
        InputError
            If that copy is not what it was when the run began.
        """
        reference: str = self.config["model"]
        if not self.config["model_file"]:
            return reference
        copy = self.path / "model.py"
        source = copy.read_bytes() if copy.exists() else b""
        if hashlib.sha256(source).hexdigest() != self.config["model_sha256"]:
            raise InputError(
                f"{copy} was changed since the run began; restore it, or train again with the new model"
            )
        return f"{copy}:{reference.rpartition(':')[2]}"

    def hold(self, name: str, values: npt.NDArray[Any]) -> None:
        """Keep a small array with what the model may know of its data; what is held already stays."""
        group = zarr.open_group(str(self.path / "problem"), mode="r+")
        if name not in group:
            group.create_array(name, data=values)

    def held_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What the run keeps of its training data (feature statistics, labels)."""
        group = zarr.open_group(str(self.path / "problem"), mode="r")
        return {name: np.asarray(array[...]) for name, array in group.arrays()}

    def label_names(self) -> list[str] | None:
        """Names of the labels, if the training data had any."""
        raw = self.held_arrays().get("label_names")
        return None if raw is None else raw.tobytes().decode().split("\n")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run; the kernel lets go of it when this process dies. `RunBusy` if another driver has it."""
        with held_lock(self.path):
            yield

    def sweep(self, live: Mapping[str, set[str]]) -> int:
        """Remove chunks that no ledger names and half-written files; only the lock's holder may. Returns the count.

        Parameters
        ----------
        live
            Per state array, the chunk keys (relative to the run) that some ledger names.
        """
        n_removed = 0
        for folder in sorted(path for path in (self.path / "state").iterdir() if path.is_dir()):
            for entry in os.scandir(folder):
                key = f"state/{folder.name}/{entry.name}"
                orphan = entry.name.startswith("c.") and key not in live.get(folder.name, ())
                if orphan or entry.name.endswith(PARTIAL):
                    # a worker that outlived its driver may remove its own leftovers meanwhile
                    Path(entry.path).unlink(missing_ok=True)
                    n_removed += 1
        return n_removed


def check_place(path: str | os.PathLike[str], overwrite: bool) -> None:
    """Raise, with nothing changed, if a run cannot be made at ``path``."""
    path = Path(os.path.abspath(path))
    if not path.parent.is_dir():
        raise InputError(f"the folder {path.parent} does not exist; make it first")
    require_hard_links(path.parent)
    if not path.exists():
        return
    if not (path / LEDGER).exists():
        if not path.is_dir() or any(entry.name != LOCK for entry in path.iterdir()):
            raise UsageError(f"{path} exists and is not a run; give another name")
        return
    if not overwrite:
        raise UsageError(f"{path} exists; `oocml resume` goes on with it, --overwrite replaces it")
    with held_lock(path):
        pass


def create_run(
    path: str | os.PathLike[str],
    *,
    config: Mapping[str, Any],
    arrays: Mapping[str, StoredArray],
    held: Mapping[str, npt.NDArray[Any]],
    segments: list[int],
    model_file: Path | None = None,
    overwrite: bool = False,
    check: Callable[[RunStore], None] | None = None,
    fill: Callable[[zarr.Group], None] | None = None,
) -> RunStore:
    """Make a run beside ``path`` and rename it there when it is whole.

    Parameters
    ----------
    arrays
        The state arrays.
    held
        Small arrays the run keeps of its training data.
    overwrite
        Replace a run that is there: it is kept aside until this one has an epoch (`oocml.store.replacing`). An empty
        folder is always replaced.
    fill
        Called with the run's group to write what else it keeps.
    check
        Called with the run before it takes its place; what it raises leaves ``path`` as it was.
    """
    check_place(path, overwrite)
    path = Path(os.path.abspath(path))
    remove_leftovers(path)
    beside = replacing.beside(path)
    with ExitStack() as stack:
        if (path / LEDGER).exists():
            stack.enter_context(held_lock(path))  # nobody trains what is about to be replaced
        stack.callback(shutil.rmtree, beside, ignore_errors=True)
        with writing(path):
            _write_run(beside, config, arrays, held, segments, model_file)
            if fill is not None:
                fill(zarr.open_group(str(beside), mode="r+"))
        if check is not None:
            check(RunStore(beside))
        with writing(path):
            put_in_place(beside, path)
    return RunStore(path)


def _write_run(
    beside: Path,
    config: Mapping[str, Any],
    arrays: Mapping[str, StoredArray],
    held: Mapping[str, npt.NDArray[Any]],
    segments: list[int],
    model_file: Path | None,
) -> None:
    run_id = uuid.uuid4()
    own = {"kind": "run", "schema": SCHEMA, "run_id": run_id.hex, "model_file": model_file is not None}
    group = zarr.create_group(str(beside), attributes={"oocml": {**config, **own}})
    (beside / "state").mkdir()
    for array in arrays.values():
        _create_state_array(group, array)
    small = group.create_group("problem")
    for name, values in held.items():
        small.create_array(name, data=values)
    if model_file is not None:
        shutil.copyfile(model_file, beside / "model.py")
    # workers of a run that this one replaces may write on for a while: start at stamps they do not have
    first_stamp = 1 + run_id.int % (MAX_STAMP // STAMPS_PER_DRIVER // 2) * STAMPS_PER_DRIVER
    write_ledger(beside / LEDGER, _first_ledger(arrays, segments, first_stamp))


def _create_state_array(group: zarr.Group, array: StoredArray) -> None:
    group.create_array(
        f"state/{array.name}",
        shape=(array.n_blocks, MAX_STAMP, *array.block_shape),
        chunks=(1, 1, *array.chunk_shape),
        dtype=array.dtype,
        compressors=None,
        filters=None,
        fill_value=0,
        # with "." a stamp is a file, never a folder that stays behind
        chunk_key_encoding={"name": "default", "separator": "."},
        config={"write_empty_chunks": True},
    )


def _first_ledger(arrays: Mapping[str, StoredArray], segments: list[int], first_stamp: int) -> Ledger:
    return Ledger(
        stamps={name: np.zeros(array.n_blocks, np.int64) for name, array in arrays.items()},
        crcs={name: np.zeros(array.n_blocks, np.uint32) for name, array in arrays.items()},
        segments=segments,
        next_stamp=first_stamp,
    )
