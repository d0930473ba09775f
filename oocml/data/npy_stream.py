"""Arrays in NumPy's own format, read a range at a time: ``.npy`` files and the members of ``.npz`` files.

Plain files and stored (uncompressed) members are read where they lie, in any order. Compressed members are streams:
ranges must be asked for in increasing order, and going back is refused. No memory map is made: mapped pages would
count as a worker's memory.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zipfile
import zlib
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy_format

from oocml.errors import InputError

_LOCAL_HEADER = struct.Struct("<26xHH")
"""The two lengths at the end of a zip member's local header (APPNOTE 4.3.7)."""


class NpyArray:
    """An array that is read in ranges of its first axis.

    Parameters
    ----------
    path
        What to call it in messages.
    file
        Positioned at the array. A plain file may be closed afterwards, a stream must stay open.
    place
        Path and offset of the array in a plain file; None for a stream.
    """

    def __init__(self, path: str, file: IO[bytes], place: tuple[str, int] | None) -> None:
        self.path = path
        header = _Counted(file)
        try:
            version = npy_format.read_magic(header)
            # Version 3 differs from 2 in the encoding of field names, which matrices don't have.
            read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
            shape, fortran, dtype = read(header)
        except (ValueError, EOFError, OSError, zlib.error, zipfile.BadZipFile) as error:
            raise InputError(f"{path} is not a .npy array: {' '.join(str(error).split())[:120]}") from None
        self.shape: tuple[int, ...] = shape
        self.dtype: np.dtype[Any] = dtype
        self.fortran = fortran and len(shape) > 1
        if dtype.hasobject:
            raise InputError(f"{path} holds Python objects, which are not read; save it as numbers or text")
        if self.fortran and place is None:
            raise InputError(
                f"{path} is a compressed array in column order, which cannot be read by rows; save it with "
                "np.savez, or in row order"
            )
        self._place = None if place is None else (place[0], place[1] + header.count)
        self._stream = file
        self._at = 0

    def __len__(self) -> int:
        return self.shape[0] if self.shape else 1

    @property
    def random_access(self) -> bool:
        return self._place is not None

    def read(self, lo: int, hi: int) -> npt.NDArray[Any]:
        """Entries ``lo:hi`` along the first axis, writeable and in row order.

        Raises
        ------
        InputError
            The file is damaged or cut short, or a stream would have to go back.
        """
        if hi > len(self):
            raise InputError(f"{self.path} has {len(self)} entries, {hi} are needed; save it again")
        inner = self.shape[1:]
        n_inner = int(np.prod(inner, dtype=np.int64))
        size = self.dtype.itemsize
        with self._opened() as file:
            if not self.fortran:
                width = n_inner * size
                raw = self._bytes(file, lo * width, (hi - lo) * width)
                return np.frombuffer(raw, self.dtype).reshape(hi - lo, *inner)
            columns = np.empty((n_inner, hi - lo), self.dtype)
            for c in range(n_inner):
                raw = self._bytes(file, (c * len(self) + lo) * size, (hi - lo) * size)
                columns[c] = np.frombuffer(raw, self.dtype)
        return np.ascontiguousarray(columns.reshape(*inner[::-1], hi - lo).T)

    def _opened(self) -> contextlib.AbstractContextManager[IO[bytes]]:
        return contextlib.nullcontext(self._stream) if self._place is None else open_file(self._place[0])

    def _bytes(self, file: IO[bytes], start: int, size: int) -> bytearray:
        buffer = bytearray(size)
        try:
            if self._place is not None:
                file.seek(self._place[1] + start)
            elif start < self._at:
                raise InputError(
                    f"{self.path} is compressed and cannot be read backwards; save it with np.savez"
                )
            else:
                _skip(file, start - self._at)
            got = _read_into(file, memoryview(buffer))
        except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
            raise InputError(f"{self.path} is damaged: {error}; fetch or save it again") from None
        self._at = start + got
        if got < size:
            raise InputError(
                f"{self.path} is cut short: {self.shape} {self.dtype} needs {size - got} bytes more; save it again"
            )
        return buffer


class _Counted:
    """Counts the bytes read of a file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.count = 0

    def read(self, size: int) -> bytes:
        piece = self._file.read(size)
        self.count += len(piece)
        return piece


def _skip(file: IO[bytes], size: int) -> None:
    while size > 0:
        got = len(file.read(min(size, 1 << 20)))
        if got == 0:
            raise EOFError("its stream ends early")
        size -= got


def _read_into(file: IO[bytes], view: memoryview) -> int:
    done = 0
    while done < len(view):
        piece = file.read(min(len(view) - done, 1 << 22))
        if not piece:
            break
        view[done : done + len(piece)] = piece
        done += len(piece)
    return done


def open_npy(path: str) -> NpyArray:
    """The array of a ``.npy`` file.

    Raises
    ------
    InputError
        Missing, unreadable or not a ``.npy`` file.
    """
    with open_file(path) as file:
        return NpyArray(path, file, (path, 0))


class NpzFile:
    """The members of a ``.npz`` file; a context manager, whose end also closes the members' streams.

    Raises
    ------
    InputError
        Missing, unreadable or not a zip file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        open_file(path).close()
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise InputError(f"{path} is not an .npz file: {error}; is it cut short?") from None
        self._streams = contextlib.ExitStack()
        self.names = [name.removesuffix(".npy") for name in self._zip.namelist()]

    def __enter__(self) -> NpzFile:
        return self

    def __exit__(self, *error: object) -> None:
        self._streams.close()
        self._zip.close()

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def array(self, name: str) -> NpyArray:
        """A member, read where it lies if it is stored, as a stream if it is compressed."""
        info = self._zip.infolist()[self.names.index(name)]
        label = f"{self.path}[{name}]"
        if info.compress_type != zipfile.ZIP_STORED:
            stream = self._streams.enter_context(self._zip.open(info))
            return NpyArray(label, stream, None)
        with open_file(self.path) as file:
            file.seek(info.header_offset)
            lengths = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
            file.seek(sum(lengths), os.SEEK_CUR)
            return NpyArray(label, file, (self.path, file.tell()))

    def whole(self, name: str) -> npt.NDArray[Any]:
        """All of a small member."""
        array = self.array(name)
        return array.read(0, len(array)).reshape(array.shape)


def open_file(path: str) -> IO[bytes]:
    """The file, or an `InputError` that says why not."""
    try:
        return open(path, "rb")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
