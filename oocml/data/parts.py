"""Text sources as parts and blocks: byte ranges of plain files, compressed files as one stream each."""

from __future__ import annotations

import bz2
import contextlib
import functools
import gzip
import io
import itertools
import lzma
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import zstandard

from oocml.data.readers import Part
from oocml.errors import InputError, UsageError

BytesArray = npt.NDArray[np.uint8]

BLOCK_BYTES = 4 << 20
"""Text read at a time."""
MAX_LINE_BYTES = 256 << 20
"""A longer line is taken for a file that isn't text."""
MAGIC = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zst"}


class Block(NamedTuple):
    """Whole lines of a part."""

    text: BytesArray
    """The bytes (read-only), ending in a newline (one is added to a last line that has none)."""
    position: int
    """Byte of the decompressed file where the block begins."""


def compression(path: str) -> str | None:
    """``gz``, ``bz2``, ``xz`` or ``zst`` by the file's first bytes, None for anything else.

    Raises
    ------
    InputError
        The file can't be read.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(6)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    return next((kind for magic, kind in MAGIC.items() if head.startswith(magic)), None)


def open_stream(path: str) -> IO[bytes]:
    """The decompressed bytes of a file."""
    kind = compression(path)
    if kind == "gz":
        return cast(IO[bytes], gzip.open(path, "rb"))
    if kind == "bz2":
        return bz2.open(path, "rb")
    if kind == "xz":
        return lzma.open(path, "rb")
    if kind == "zst":
        return cast(IO[bytes], io.BufferedReader(ZstdStream(path), 1 << 20))
    return open(path, "rb")


class ZstdStream(io.RawIOBase):
    """All frames of a zstd file; unlike zstandard's own reader it notices a frame that ends early."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "rb")  # noqa: SIM115, closed by close()
        self._frame: Any = None
        self._packed = b""
        self._plain = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._plain:
            self._packed = self._packed or self._file.read(1 << 18)
            if not self._packed:
                if self._frame is not None:
                    raise EOFError
                return 0
            if self._frame is None:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            self._plain = memoryview(self._frame.decompress(self._packed))
            self._packed = b""
            if self._frame.eof:
                self._packed, self._frame = self._frame.unused_data, None
        n = min(len(buffer), len(self._plain))
        buffer[:n], self._plain = self._plain[:n], self._plain[n:]
        return n

    def close(self) -> None:
        self._file.close()
        super().close()


def text_parts(paths: Sequence[str], part_bytes: int) -> list[Part]:
    """Byte ranges of about ``part_bytes`` of plain files, one part for a compressed file.

    A line belongs to the part in which its first byte lies.

    Raises
    ------
    InputError
        A file is missing, unreadable or empty.
    """
    parts: list[Part] = []
    for path in paths:
        packed = compression(path)
        size = os.path.getsize(path)
        if size == 0:
            raise InputError(f"{path} is empty")
        if packed:
            parts.append(Part(len(parts), path, 0, -1))
            continue
        cuts = np.linspace(0, size, max(1, round(size / part_bytes)) + 1).astype(np.int64)
        for lo, hi in itertools.pairwise(cuts):
            parts.append(Part(len(parts), path, int(lo), int(hi)))
    return parts


def body_parts(paths: Sequence[str], part_bytes: int, header_bytes: Callable[[str], int]) -> list[Part]:
    """`text_parts` of files with headers: those of plain files belong to no part.

    ``header_bytes`` tells how many bytes of a file come before its first line of data.
    """
    kept: list[Part] = []
    body: dict[str, int] = {}
    for part in text_parts(paths, part_bytes):
        if part.path not in body:
            body[part.path] = header_bytes(part.path)
        if part.hi < 0:
            kept.append(part._replace(index=len(kept)))
        elif part.hi > body[part.path]:
            kept.append(part._replace(index=len(kept), lo=max(part.lo, body[part.path])))
    return kept


def check_encoding(encoding: str) -> str:
    """The encoding, if text in it can be cut at ASCII characters.

    Raises
    ------
    UsageError
        It can't, or is unknown.
    """
    try:
        single = "aZ0,\t\n".encode(encoding) == b"aZ0,\t\n"
    except (LookupError, UnicodeEncodeError):
        single = False
    if not single:
        raise UsageError(
            f"encoding={encoding!r} is unknown or not one byte per ASCII character; convert the files to utf-8"
        )
    return encoding


def iter_blocks(part: Part, block_bytes: int | None = None) -> Iterator[Block]:
    """The lines of a part, in blocks of about ``block_bytes`` (default: `BLOCK_BYTES`).

    Raises
    ------
    InputError
        The file is damaged, cut short, or no text.
    """
    block_bytes = block_bytes or BLOCK_BYTES
    with open_stream(part.path) as file, contextlib.ExitStack() as stack:
        position = part.lo
        if part.lo:
            file.seek(part.lo - 1)
            position += _skip_line(file)
        read = functools.partial(_read, file, block_bytes, part.path)
        if part.hi < 0:  # decompressing is worth a thread of its own
            read = stack.enter_context(_ReadAhead(read)).read
        rest = b""
        while part.hi < 0 or position < part.hi:
            more = read()
            text = rest + more
            if not text:
                return
            end = len(text)
            if more:
                end = text.rfind(b"\n") + 1
                if part.hi >= 0 and position + len(text) > part.hi:
                    # the last line that begins before hi ends at the first newline at or after hi - 1
                    first_after = text.find(b"\n", max(part.hi - 1 - position, 0))
                    end = first_after + 1 if first_after >= 0 else end
                if end == 0:
                    rest = text
                    if len(rest) > MAX_LINE_BYTES:
                        raise InputError(
                            f"{part.path}: a line is longer than {MAX_LINE_BYTES >> 20} MiB; is it text?"
                        )
                    continue
            block, rest = text[:end], text[end:]
            if not block.endswith(b"\n"):
                block += b"\n"
            yield Block(np.frombuffer(block, np.uint8), position)
            position += end


def count_lines(path: str, hi: int) -> int:
    """Newlines in the first ``hi`` bytes of a plain file."""
    lines = 0
    with open(path, "rb") as file:
        while hi > 0:
            text = file.read(min(hi, BLOCK_BYTES))
            if not text:
                break
            lines += text.count(b"\n")
            hi -= len(text)
    return lines


class _ReadAhead:
    """Calls ``read`` once ahead in a thread, until it returns nothing."""

    def __init__(self, read: Callable[[], bytes]) -> None:
        self._read = read
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="decompress")
        self._next = self._pool.submit(read)

    def __enter__(self) -> _ReadAhead:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True)

    def read(self) -> bytes:
        piece = self._next.result()
        if piece:
            self._next = self._pool.submit(self._read)
        return piece


def _skip_line(file: IO[bytes]) -> int:
    """Move to the first line that begins at or after the next byte but one; how far beyond it that is."""
    skipped = -1
    while True:
        piece = file.readline(BLOCK_BYTES)
        skipped += len(piece)
        if not piece or piece.endswith(b"\n"):
            return skipped


@contextlib.contextmanager
def undamaged(path: str) -> Iterator[None]:
    """Turn what a decompressor says of a damaged file into an `InputError`."""
    try:
        yield
    except EOFError:
        raise InputError(f"{path} is cut short (its compressed stream ends early); fetch it again") from None
    except (OSError, ValueError, zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
        raise InputError(f"{path} is damaged: {error}; fetch it again") from None


def _read(file: IO[bytes], n_bytes: int, path: str) -> bytes:
    with undamaged(path):
        return _read_full(file, n_bytes)


def _read_full(file: IO[bytes], n_bytes: int) -> bytes:
    """``n_bytes`` or what is left; decompressors return less whenever they like."""
    pieces: list[bytes] = []
    while n_bytes > 0:
        piece = file.read(n_bytes)
        if not piece:
            break
        pieces.append(piece)
        n_bytes -= len(piece)
    return b"".join(pieces)
