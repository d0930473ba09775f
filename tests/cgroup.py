"""Memory cgroups (Linux, v1 or v2): a hard limit on everything that a command and its children keep in memory."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
REMOVAL_S = 10.0
"""How long the kernel may take to let go of a group whose processes have ended."""


class NoCgroup(Exception):
    """No memory cgroup can be made here; the text says why."""


class MemoryCgroup:
    """One group and its limit.

    Parameters
    ----------
    folder
        The group's folder, which exists.
    limit
        Bytes, page cache included; swap space adds none.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        v1 = (folder / "memory.limit_in_bytes").exists()
        (folder / ("memory.limit_in_bytes" if v1 else "memory.max")).write_text(str(limit))
        swap, no_swap = ("memory.memsw.limit_in_bytes", limit) if v1 else ("memory.swap.max", 0)
        if (folder / swap).exists():
            (folder / swap).write_text(str(no_swap))
        self._counts = folder / ("memory.oom_control" if v1 else "memory.events")
        assert self.oom_kills == 0

    @property
    def oom_kills(self) -> int:
        """Processes that the kernel has killed because the group was full."""
        counts = dict(line.split() for line in self._counts.read_text().splitlines())
        return int(counts["oom_kill"])

    def run(self, command: Sequence[str], timeout: float) -> subprocess.CompletedProcess[str]:
        """Run a command inside the group."""
        entering = 'echo $$ > "$0" && exec "$@"'
        inside = ["sh", "-c", entering, str(self.folder / "cgroup.procs"), *command]
        return subprocess.run(inside, capture_output=True, text=True, timeout=timeout, check=False)

    def remove(self) -> None:
        """End what still runs in the group, and the group."""
        deadline = time.monotonic() + REMOVAL_S
        while True:
            for pid in (self.folder / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            try:
                self.folder.rmdir()
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)


@contextlib.contextmanager
def memory_cgroup(limit: int) -> Iterator[MemoryCgroup]:
    """A new group below this process's own, removed at the end; `NoCgroup` where none can be made."""
    folder = parent_group() / f"oocml-test-{uuid.uuid4().hex[:12]}"
    try:
        folder.mkdir()
    except OSError as error:
        raise NoCgroup(f"no cgroup can be made in {folder.parent} ({error.strerror}); root may") from None
    try:
        group = MemoryCgroup(folder, limit)
    except (OSError, KeyError) as error:
        folder.rmdir()
        raise NoCgroup(f"no memory limit can be set in {folder.parent} ({error})") from None
    try:
        yield group
    finally:
        group.remove()


def parent_group() -> Path:
    """The nearest group above a new one's processes whose children the memory controller watches."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except FileNotFoundError:
        raise NoCgroup("this system has no cgroups") from None
    own = {controllers: path for _, controllers, path in (line.split(":", 2) for line in lines)}
    v1 = next((path for names, path in own.items() if "memory" in names.split(",")), None)
    root, path = (ROOT / "memory", v1) if v1 is not None else (ROOT, own.get("", "/"))
    group = root / path.lstrip("/")
    # in a container the path may be the host's, of which only the top is mounted
    for folder in (group, *group.parents):
        if v1 is not None and (folder / "memory.limit_in_bytes").exists():
            return folder
        # v2 hands controllers down one level at a time, and never from a group that has processes of its own
        handed_down = folder / "cgroup.subtree_control"
        if v1 is None and handed_down.exists() and "memory" in handed_down.read_text().split():
            return folder
        if folder == root:
            break
    raise NoCgroup("the memory controller is in no cgroup above this process")
