"""A model's kernels are compiled in a process of their own: what compiling takes is given back with it.

It takes up to 250 MiB and half a minute, and the process that workers are forked from would keep most of that memory
for good. numba keeps what it compiles on disk; a small file beside it says for which sources that has been done.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import oocml
from oocml.kernels.finite import compiled_folder
from oocml.models.protocol import Settings
from oocml.models.registry import BUILTIN

COMPILING = "compiling kernels, once per installation and kind of model: some 20 seconds"
COMPILING_HERE = "compiling kernels, once per installation and format: some 10 seconds"
APART = "OOCML_COMPILING"
"""Environment variable of the process that compiles."""
SOURCES = ("kernels", "models")
"""Folders of the package whose files decide what is compiled."""
COMPILERS = ("numba", "llvmlite", "numpy")


def compile_kernels(reference: str, settings: Settings, say: Callable[[str], None]) -> None:
    """Have the kernels that a model uses compiled, unless that was done before; ``say`` it if it has to be.

    Kernels of models of one's own are left to be compiled where they are first called. Nothing depends on success:
    what isn't on disk afterwards is compiled there, too.
    """
    if reference not in BUILTIN or APART in os.environ:
        return
    mark = _mark("rehearsed", reference, {name: _kind(value) for name, value in sorted(settings.items())})
    if mark is None or _is_set(mark):
        return
    say(COMPILING)
    if compiled_apart(reference, settings):
        _set(mark)


@contextlib.contextmanager
def compiling_here(uses: Sequence[str], say: Callable[[str], None], after_s: float = 1.0) -> Iterator[None]:
    """Run what compiles its kernels where it calls them: for the first time, ``say`` what takes so long.

    Parameters
    ----------
    uses
        Names what is run; an ingest: the verb and the format.
    after_s
        It is said after so many seconds: what is refused at once has compiled nothing.
    """
    mark = _mark("used", *uses)
    if mark is None or _is_set(mark):
        yield
        return
    slow = threading.Timer(after_s, say, [COMPILING_HERE])
    slow.daemon = True
    slow.start()
    try:
        yield
    finally:
        slow.cancel()
    _set(mark)


def _mark(what: str, *uses: object) -> Path | None:
    """The file that says for which sources this was done; None where numba keeps nothing."""
    folder = compiled_folder()
    digest = hashlib.sha256(json.dumps(uses).encode()).hexdigest()
    return None if folder is None else folder / f"{what}-{digest[:16]}"


def _is_set(mark: Path) -> bool:
    try:
        return mark.read_text() == _fingerprint()
    except OSError:
        return False


def _set(mark: Path) -> None:
    with contextlib.suppress(OSError):
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.write_text(_fingerprint())


def compiled_apart(reference: str, settings: Settings) -> bool:
    """Use a model in a new process (`oocml.first_use`); whether that went well."""
    command = [sys.executable, "-m", "oocml.first_use", reference, json.dumps(dict(settings))]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)), APART: "1"}
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
    except OSError:
        return False
    return done.returncode == 0


def _kind(value: object) -> object:
    """What of a setting can decide which kernels are used: of a number, whether it is zero."""
    return value if value is None or isinstance(value, str | bool) else value != 0


def _fingerprint() -> str:
    """Of all that numba's cache depends on: sources, compilers, and the processor."""
    from llvmlite.binding import get_host_cpu_name

    package = Path(oocml.__file__).parent
    files = sorted(path for part in SOURCES for path in (package / part).glob("*.py"))
    facts = [
        [platform.python_version(), get_host_cpu_name(), *map(version, COMPILERS)],
        [[str(path), (stat := path.stat()).st_size, stat.st_mtime_ns] for path in files],
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
