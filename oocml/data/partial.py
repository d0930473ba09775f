"""The folder beside a dataset in which it is made: its name, its lock, and what it may replace."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

from oocml.data.dataset import read_kind
from oocml.errors import InputError, RunBusy, UsageError


def partial_of(path: str) -> Path:
    """Where a dataset is made before it appears at ``path``."""
    return Path(f"{path.rstrip('/')}.partial")


def check_target(path: str, *, overwrite: bool) -> None:
    """Refuse a path that is taken, or that ``overwrite`` would destroy without being a dataset."""
    if not os.path.lexists(path):
        parent = os.path.dirname(os.path.abspath(path))
        if not os.path.isdir(parent):
            raise InputError(f"{path}: the folder {parent} does not exist")
        return
    if not overwrite:
        raise UsageError(f"{path} exists; give another name or --overwrite")
    try:
        kind = read_kind(path)[0]
    except InputError:  # something else
        kind = None
    if kind != "dataset":
        raise UsageError(f"{path} is not a dataset; remove it yourself or give another name")


class Lock:
    """Holds a partial folder for this process; the system releases it if the process dies."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        """Let others have the folder; may be called again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def claim(partial: Path) -> Lock:
    """Make the partial folder, unless it is there, and lock it.

    Raises
    ------
    RunBusy
        Another process holds it.
    InputError
        It can't be written.
    """
    try:
        partial.mkdir(exist_ok=True)
        descriptor = os.open(partial / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise InputError(f"cannot write {partial}: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise RunBusy(
            f"{partial} is being written by another process; wait for it or give another name"
        ) from None
    return Lock(descriptor)


def empty(partial: Path) -> None:
    """Remove what an earlier process left in the folder."""
    for entry in partial.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name != "lock":
            entry.unlink()
