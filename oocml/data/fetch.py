"""Getting a data set named by its spec, every file verified by its sha256.

Packages are obtained by the ordinary clients (pip, apt-get), run as subprocesses, so that whatever index or
mirror the user has configured is honoured; no host is named here. Only the files a spec names come out of a
package. A file that is already there and has the right sum is kept, so an interrupted fetch goes on where it
stopped; each file is made beside its place and renamed, so a name never holds half a file.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from packaging.utils import parse_wheel_filename

from oocml.data.convert import convert
from oocml.data.specs import Source, SourceFile, Spec, load_spec
from oocml.errors import InputError, OocmlError, UsageError

_PIECE = 1 << 20


class FetchError(OocmlError):
    """A package client failed: no network, no such version, no client."""


def fetch(name: str | Path | Spec, to: str | Path) -> list[Path]:
    """Bring the files of a data set into the folder ``to``.

    Parameters
    ----------
    name
        Name of a spec, path of a spec's TOML file, or a `Spec`.
    to
        Folder; made if it doesn't exist.

    Returns
    -------
    list of Path
        The delivered files in the order of the spec, then those converted from them.

    Raises
    ------
    UsageError
        If the data set has to be got by hand; the message says how.
    InputError
        If a file does not have the sha256 that the spec states.
    FetchError
        If the package client fails.
    """
    spec = name if isinstance(name, Spec) else load_spec(name)
    source, folder = spec.source, Path(to)
    if source.kind == "manual":
        return _check_manual(spec, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        missing = [f for f in source.files if not has_sha256(folder / f.to, f.sha256)]
        missing = [f for f in missing if not _take_installed(source, f, folder)]
        if missing:
            scratch = folder / f".fetch-{source.project}"
            package = _download(source, scratch)
            _extract(package, missing, folder, f"{source.project} ({package.name})")
            shutil.rmtree(scratch)
        return [folder / f.to for f in source.files] + [
            convert(c.kind, [folder / i for i in c.inputs], folder / c.to, c.options) for c in source.convert
        ]
    except OSError as error:
        raise InputError(f"{spec.name} cannot be written to {folder}: {error.strerror or error}") from error


def sha256_of(path: Path) -> str:
    """Hexadecimal sha256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def has_sha256(path: Path, expected: str | None) -> bool:
    """Whether the file is there with that sum (any content does where none is expected)."""
    return path.is_file() and (expected is None or sha256_of(path) == expected)


def _check_manual(spec: Spec, folder: Path) -> list[Path]:
    """The files a person has put there already, or a message saying what to do."""
    files = spec.source.files
    absent = [f.to for f in files if not (folder / f.to).is_file()]
    if files and not absent:
        for f in files:
            if not has_sha256(folder / f.to, f.sha256):
                raise InputError(
                    f"{folder / f.to} is not the file of {spec.name}: its sha256 is not {f.sha256}"
                )
        return [folder / f.to for f in files]
    where = f" Origin: {spec.origin}{', ' + spec.url if spec.url else ''}."
    wanted = f" Put {', '.join(absent)} into {folder}." if absent else ""
    raise UsageError(f"{spec.name} has to be got by hand. {spec.source.instructions}{where}{wanted}")


def _take_installed(source: Source, file: SourceFile, folder: Path) -> bool:
    """Copy a file out of the project's installed package, if it is there with the right sum."""
    if source.kind != "pypi" or file.member is None:
        return False
    try:
        found = Path(str(importlib.metadata.distribution(source.project or "").locate_file(file.member)))
    except importlib.metadata.PackageNotFoundError:
        return False
    if not has_sha256(found, file.sha256):
        return False
    with found.open("rb") as stream:
        _deliver(stream, file, folder, str(found))
    return True


def _download(source: Source, scratch: Path) -> Path:
    """The package in ``scratch``: the one an interrupted fetch left there, if it's the right one, else a new one."""
    if source.filename and source.sha256 and has_sha256(scratch / source.filename, source.sha256):
        return scratch / source.filename
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    command = _pip_command(source) if source.kind == "pypi" else ["apt-get", "download", str(source.project)]
    what = source.filename or source.project
    _run(command, scratch, f"{what} cannot be downloaded")
    found = [p for p in scratch.iterdir() if p.suffix in {".whl", ".deb"}]
    if len(found) != 1:
        raise FetchError(f"{command[0]} downloaded {len(found)} packages where one ({what}) was expected")
    if source.sha256 and sha256_of(found[0]) != source.sha256:
        raise InputError(f"{found[0].name} is not the package of the spec: its sha256 is not {source.sha256}")
    return found[0]


def _pip_command(source: Source) -> list[str]:
    """Ask for exactly the wheel of the spec, whatever Python and platform this is."""
    _, _, _, tags = parse_wheel_filename(str(source.filename))
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--ignore-requires-python", "--dest", "."]
    for platform in sorted({t.platform for t in tags} - {"any"}):
        command += ["--platform", platform]
    versions = sorted({t.interpreter for t in tags if t.interpreter.startswith("cp")})
    if versions:
        command += ["--implementation", "cp", "--python-version", versions[0].removeprefix("cp")]
        command += [f"--abi={abi}" for abi in sorted({t.abi for t in tags})]
    return [*command, f"{source.project}=={source.version}"]


def _run(command: list[str], folder: Path, what: str) -> None:
    """Run a package client; its last line of complaint becomes ours."""
    environment = os.environ | {"LC_ALL": "C", "PIP_NO_INPUT": "1"}
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, env=environment, check=False
        )
    except FileNotFoundError:
        raise FetchError(f"{what}: {command[0]} is not on this machine; see the origin in the spec") from None
    if done.returncode:
        lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        errors = (
            [line for line in lines if line.upper().startswith(("ERROR", "E:"))]
            or lines
            or ["no reason given"]
        )
        hint = "; try 'apt-get update' first" if command[0] == "apt-get" else ""
        if "No module named pip" in done.stderr:
            hint = "; try 'python -m ensurepip'"
        raise FetchError(f"{what}: {errors[-1]}{hint}")


def _extract(package: Path, files: list[SourceFile], folder: Path, what: str) -> None:
    wanted = {f.member: f for f in files}
    for member, stream in _members(package, set(wanted)):
        _deliver(stream, wanted.pop(member), folder, f"{member} in {what}")
    if wanted:
        raise InputError(f"{what} holds no {next(iter(wanted))}; the spec does not fit this version")


def _members(package: Path, wanted: set[str | None]) -> Iterator[tuple[str, IO[bytes]]]:
    """The wanted members of a wheel or of a Debian package, one after another."""
    if package.suffix == ".whl":
        try:
            with zipfile.ZipFile(package) as archive:
                for member in sorted(wanted & set(archive.namelist()), key=str):
                    with archive.open(str(member)) as stream:
                        yield str(member), stream
        except zipfile.BadZipFile:
            raise InputError(f"{package.name} is not a whole package; fetch again") from None
        return
    _run(
        ["dpkg-deb", "--extract", package.name, "tree"], package.parent, f"{package.name} cannot be unpacked"
    )
    for member in sorted(wanted, key=str):
        path = package.parent / "tree" / str(member)
        if path.is_file():
            with path.open("rb") as stream:
                yield str(member), stream


def _deliver(stream: IO[bytes], file: SourceFile, folder: Path, what: str) -> None:
    """Write one file beside its place, check its sum, rename it."""
    partial = folder / f".{file.to}.partial"
    digest = hashlib.sha256()
    try:
        with partial.open("wb") as out:
            while piece := stream.read(_PIECE):
                digest.update(piece)
                out.write(piece)
        if digest.hexdigest() != file.sha256:
            raise InputError(
                f"{what} has sha256 {digest.hexdigest()} where the spec says {file.sha256}; nothing was written"
            )
        partial.replace(folder / file.to)
    finally:
        partial.unlink(missing_ok=True)
