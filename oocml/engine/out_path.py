"""Where an output is made before it appears under its name."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from oocml.data.dataset import read_kind
from oocml.errors import DoesNotFit, InputError, UsageError
from oocml.store.chunks import PARTIAL


@contextmanager
def making(path: Path, kind: str, *, overwrite: bool) -> Iterator[Path]:
    """Yield a path beside ``path``; what is made there takes its place at the end, and goes if anything fails.

    Raises
    ------
    UsageError
        If ``path`` is taken and may not be replaced: without ``overwrite``, or by a folder that is no ``kind``.
    DoesNotFit
        If the disk is full.
    """
    if path.exists():
        if not overwrite:
            raise UsageError(f"{path} exists; give another name or --overwrite")
        if path.is_dir() and _kind_of(path) != kind:
            raise UsageError(
                f"{path} is not an earlier output ({kind}); remove it yourself or give another name"
            )
    if not path.parent.is_dir():
        raise InputError(f"the folder {path.parent} does not exist; make it first")
    beside = path.with_name(f"{path.stem}{PARTIAL}-{os.getpid()}{path.suffix}")
    _remove(beside)
    try:
        yield beside
        if path.is_dir():
            shutil.rmtree(path)
        os.replace(beside, path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):  # who writes rarely names the file
            raise DoesNotFit(f"no space left on the disk of {path}; make room and run it again") from None
        raise
    finally:
        _remove(beside)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())


def _kind_of(path: Path) -> str | None:
    try:
        return read_kind(path)[0]
    except InputError:
        return None


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
