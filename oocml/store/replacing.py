"""How a run takes the place of another: no trained run is lost until the new one has an epoch.

RUN.zarr                     the run
RUN.zarr.partial-PID         one that is being made
RUN.zarr.partial-old         the trained run that RUN.zarr replaces, for as long as RUN.zarr has no epoch on disk
RUN.zarr.partial-gone-PID    what is being removed

Between two renames a kill may leave no RUN.zarr; `bring_back` then gives the old run its name again. Whoever renames
the old run holds its lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from oocml.errors import DamagedStore, RunBusy
from oocml.store.chunks import PARTIAL, write_failed
from oocml.store.ledger import read_ledger

LEDGER = "ledger"
LOCK = ".lock"


@contextlib.contextmanager
def held_lock(path: Path) -> Iterator[None]:
    """Hold a run; `RunBusy` if another driver has it."""
    fd = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunBusy(f"{path} is being trained by another process; wait for it or stop it") from None
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Tell of what the file system refuses in one line."""
    try:
        yield
    except OSError as error:
        raise write_failed(error, path) from error


def beside(path: Path) -> Path:
    """Where this process makes a run that is to be ``path``."""
    return path.with_name(f"{path.name}{PARTIAL}-{os.getpid()}")


def set_aside(path: Path) -> Path:
    """Where the run is kept that ``path`` replaces."""
    return path.with_name(f"{path.name}{PARTIAL}-old")


def has_epoch(path: Path) -> bool:
    """Whether the run at ``path`` has an epoch on disk, or all that its program asked for."""
    try:
        ledger = read_ledger(path / LEDGER)
    except DamagedStore:
        return False
    return bool(ledger.history) or ledger.finished


def put_in_place(made: Path, path: Path) -> None:
    """Give a new run its name; the caller holds the lock of the run that has it.

    That run is set aside. If it has no epoch and was itself to replace one, it goes and that one stays aside.
    """
    if not (path / LEDGER).exists():
        (path / LOCK).unlink(missing_ok=True)  # of a creation that was killed
        os.rename(made, path)  # replaces an empty folder, too
        return
    old = set_aside(path)
    if old.exists() and has_epoch(path):
        _remove(old, path)
    with contextlib.ExitStack() as stack:
        goes = old.exists()
        if goes:  # or others might bring it back between the two renames
            stack.enter_context(held_lock(old))
        away = _gone(path) if goes else old
        os.rename(path, away)
        try:
            os.rename(made, path)
        except OSError:
            os.rename(away, path)
            raise
    if goes:
        shutil.rmtree(away, ignore_errors=True)


def withdraw(path: Path) -> None:
    """Leave no run at ``path``, or the one that it was to replace; the caller holds its lock."""
    old = set_aside(path)
    with contextlib.ExitStack() as stack:
        if old.exists():
            stack.enter_context(held_lock(old))
        gone = _gone(path)
        os.rename(path, gone)
        if old.exists():
            os.rename(old, path)
    shutil.rmtree(gone, ignore_errors=True)


def let_go(path: Path) -> None:
    """Remove the run that ``path`` replaces if ``path`` has an epoch; the caller holds its lock."""
    old = set_aside(path)
    if old.exists() and has_epoch(path):
        with contextlib.suppress(OSError):  # then the next command does
            _remove(old, path)


def bring_back(path: Path) -> None:
    """Give a run its name again if it was set aside and none took its place."""
    old = set_aside(path)
    if path.exists() or not (old / LEDGER).exists():
        return
    # who holds it is about to do either, and who has let it go has done so
    with contextlib.suppress(RunBusy, FileNotFoundError), held_lock(old), writing(path):
        if not path.exists():
            os.rename(old, path)


def kept_aside(path: Path) -> str | None:
    """One line on the run that ``path`` is to replace, or was to; None if there is none, or ``path`` has an epoch."""
    old = set_aside(path)
    if not (old / LEDGER).exists():
        return None
    if not path.exists():
        return f"{path} is not there; the run that was to be replaced is kept as {old}: rename it to have it back"
    if has_epoch(path):
        return None
    try:
        with held_lock(path):
            todo = f"resume {path.name}, or remove it to have the old run back"
    except (RunBusy, OSError):
        todo = f"{path.name} is being trained"
    return f"{path} has no epoch yet; the run that it replaces is kept as {old}: {todo}"


def remove_leftovers(path: Path) -> None:
    """Remove what killed creations of this run left beside it, but no run that was set aside."""
    for leftover in path.parent.glob(f"{glob.escape(path.name)}{PARTIAL}-*"):
        pid = leftover.name.rpartition("-")[2]
        if pid.isdigit() and not _alive(int(pid)):
            shutil.rmtree(leftover, ignore_errors=True)


def _gone(path: Path) -> Path:
    gone = path.with_name(f"{path.name}{PARTIAL}-gone-{os.getpid()}")
    shutil.rmtree(gone, ignore_errors=True)
    return gone


def _remove(old: Path, path: Path) -> None:
    """Remove a run that was set aside; half of one is never brought back."""
    gone = _gone(path)
    os.rename(old, gone)
    shutil.rmtree(gone, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
