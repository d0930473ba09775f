"""Arrays in NumPy's own format, read a range at a time: ``.npy`` files and the members of ``.npz`` files.

Plain files and stored (uncompressed) members are read where they lie, in any order. Compressed members are streams:
ranges must be asked for in increasing order, and going back is refused. No memory map is made: mapped pages would
count as a worker's memory.
"""

from __future__ import annotations

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
    """An array that is read in ranges of its first axis."""

    def __init__(self, path: str, file: IO[bytes], *, seekable: bool) -> None:
        self.path = path
        self._file = file
        self._seekable = seekable
        self._origin = file.tell() if seekable else 0
        try:
            version = npy_format.read_magic(file)
            read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
            shape, self.fortran, dtype = read(file)
        except (ValueError, EOFError, OSError, zlib.error) as error:
            raise InputError(f"{path} is not a .npy array: {' '.join(str(error).split())[:120]}") from None
        self.shape: tuple[int, ...] = shape
        self.dtype: np.dtype[Any] = dtype
        if dtype.hasobject:
            raise InputError(f"{path} holds Python objects, which are not read; save it as numbers or text")
        self.fortran = self.fortran and len(shape) > 1 and min(shape) > 1
        if self.fortran and not seekable:
            raise InputError(
                f"{path} is a compressed array in column order, which cannot be read by rows; save it with "
                "np.savez, or in row order"
            )
        # A version 3 header is a version 2 header in another encoding, of equal use for numbers.
        self._origin = file.tell()
        self._at = self._origin

    def __len__(self) -> int:
        return self.shape[0] if self.shape else 1

    @property
    def random_access(self) -> bool:
        return self._seekable

    def read(self, lo: int, hi: int) -> npt.NDArray[Any]:
        """Entries ``lo:hi`` along the first axis, writeable and in row order."""
        inner = self.shape[1:]
        if not self.fortran:
            width = int(np.prod(inner, dtype=np.int64)) * self.dtype.itemsize
            raw = self._bytes(lo * width, (hi - lo) * width)
            return np.frombuffer(raw, self.dtype).reshape(hi - lo, *inner)
        n_cols = int(np.prod(inner, dtype=np.int64))
        out = np.empty((n_cols, hi - lo), self.dtype)
        size = self.dtype.itemsize
        for column in range(n_cols):
            raw = self._bytes((column * len(self) + lo) * size, (hi - lo) * size)
            out[column] = np.frombuffer(raw, self.dtype)
        return np.ascontiguousarray(out.reshape(*inner[::-1], hi - lo).T)

    def _bytes(self, start: int, size: int) -> bytearray:
        start += self._origin
        buffer = bytearray(size)
        try:
            if self._seekable:
                self._file.seek(start)
            elif start < self._at:
                raise InputError(
                    f"{self.path} is compressed and cannot be read backwards; save it with np.savez"
                )
            else:
                self._skip(start - self._at)
            got = _read_into(self._file, memoryview(buffer))
        except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
            raise InputError(f"{self.path} is damaged: {error}; fetch or save it again") from None
        self._at = start + got
        if got < size:
            raise InputError(
                f"{self.path} is cut short: {self.shape} {self.dtype} needs {size - got} bytes more; save it again"
            )
        return buffer

    def _skip(self, size: int) -> None:
        while size > 0:
            got = len(self._file.read(min(size, 1 << 20)))
            if got == 0:
                raise EOFError("its stream ends early")
            size -= got

    def close(self) -> None:
        self._file.close()


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
    return NpyArray(path, _open(path), seekable=True)


class NpzFile:
    """The members of a ``.npz`` file.

    Raises
    ------
    InputError
        Missing, unreadable or not a zip file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        file = _open(path)
        try:
            self._zip = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, OSError) as error:
            raise InputError(f"{path} is not an .npz file: {error}; is it cut short?") from None
        self.names = [name.removesuffix(".npy") for name in self._zip.namelist()]

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def array(self, name: str) -> NpyArray:
        """A member, read where it lies if it is stored, as a stream if it is compressed."""
        place = self.names.index(name)
        info = self._zip.infolist()[place]
        label = f"{self.path}[{name}]"
        if info.compress_type != zipfile.ZIP_STORED:
            return NpyArray(label, self._zip.open(info), seekable=False)
        file = _open(self.path)
        file.seek(info.header_offset)
        name_length, extra_length = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
        file.seek(name_length + extra_length, os.SEEK_CUR)
        return NpyArray(label, file, seekable=True)

    def whole(self, name: str) -> npt.NDArray[Any]:
        """All of a small member."""
        array = self.array(name)
        values = array.read(0, len(array))
        array.close()
        return values.reshape(array.shape)

    def close(self) -> None:
        self._zip.close()


def _open(path: str) -> IO[bytes]:
    try:
        return open(path, "rb")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
