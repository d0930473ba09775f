"""A disk that fails at a chosen moment: with an error, full, or together with the whole process."""

from __future__ import annotations

import contextlib
import errno
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oocml.engine import journal
from oocml.errors import OocmlError
from oocml.store import ledger as ledger_module
from oocml.store import run as run_module
from oocml.store.chunks import LocalChunks, write_failed


class Killed(BaseException):
    """The process is gone: nobody cleans up, the disk is as it was."""


class FaultyDisk:
    """Counts the moments at which a kill or an error leaves the disk differently, and strikes at one of them.

    A write has three: before it, with half a temporary file written, and after it. A read has one, a removal
    one before each file.

    Parameters
    ----------
    at
        Number of the moment, from 0; None never strikes.
    kind
        "kill" aborts without any clean-up, "error" and "full" raise what the store raises.
    """

    def __init__(self, at: int | None = None, kind: str = "kill") -> None:
        self.at, self.kind = at, kind
        self.moments = itertools.count()
        self.struck: str | None = None
        self.log: list[str] = []

    def moment(self, what: str) -> None:
        self.log.append(what)
        if next(self.moments) != self.at:
            return
        self.struck = what
        if self.kind == "kill":
            raise Killed(what)
        if self.kind == "full":
            raise write_failed(OSError(errno.ENOSPC, "No space left on device"), Path(what))
        raise OocmlError(f"cannot do {what}: the disk has a fault")

    def _torn(self, path: Path, what: str, record: bytes, spare: Path | None = None) -> None:
        """Half of a temporary file is there, or over that of a spare; an error removes it again as the store would."""
        if spare is not None:
            spare.rename(path)
        with open(path, "wb" if spare is None else "r+b") as file:
            file.write(record[: len(record) // 2])
        try:
            self.moment(f"{what} half done")
        except Killed:
            raise
        except OocmlError:
            path.unlink()
            raise
        if spare is None:
            path.unlink()
        else:
            path.rename(spare)

    @contextlib.contextmanager
    def installed(self) -> Iterator[FaultyDisk]:
        """Put the disk in place of the real one."""
        with pytest.MonkeyPatch.context() as patch:
            put, read_into, delete = LocalChunks.put, LocalChunks.read_into, LocalChunks.delete
            write_ledger = ledger_module.write_ledger

            def faulty_put(
                chunks: LocalChunks, key: str, buffer: memoryview, spare: str | None = None
            ) -> None:
                self.moment(f"put {key}")
                partial = chunks.root / f"{key}.1-{len(self.log)}.partial"
                given = None if spare is None else chunks.root / spare
                self._torn(partial, f"put {key}" + " again" * (spare is not None), bytes(buffer), given)
                put(chunks, key, buffer, spare)
                self.moment(f"after put {key}")

            def faulty_read(chunks: LocalChunks, key: str, buffer: memoryview) -> None:
                self.moment(f"read {key}")
                read_into(chunks, key, buffer)

            def faulty_delete(chunks: LocalChunks, keys: Any) -> None:
                for key in keys:
                    self.moment(f"delete {key}")
                    delete(chunks, [key])

            def faulty_ledger(path: Path, ledger: Any, *, durable: bool = False) -> int:
                self.moment(f"ledger {path.name}")
                self._torn(path.with_name(path.name + ".partial"), f"ledger {path.name}", ledger.pack())
                size = write_ledger(path, ledger, durable=durable)
                self.moment(f"after ledger {path.name}")
                return size

            # files are used again however small they are, and some are removed
            patch.setattr(journal, "SPARED_BYTES", 1)
            patch.setattr(journal, "SPARE_BLOCKS", 2)
            patch.setattr(LocalChunks, "put", faulty_put)
            patch.setattr(LocalChunks, "read_into", faulty_read)
            patch.setattr(LocalChunks, "delete", faulty_delete)
            for module in (journal, run_module):
                patch.setattr(module, "write_ledger", faulty_ledger)
            yield self
