"""Names in memory as bytes: millions of them, decoded when asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np
import numpy.typing as npt

from oocml.types import Int64Array


class Names(Sequence[str]):
    """Texts that lie end to end in one array of UTF-8 bytes.

    Parameters
    ----------
    letters : uint8
    offset
        Shape (n + 1,): where each text begins.
    """

    def __init__(self, letters: npt.NDArray[np.uint8], offset: Int64Array) -> None:
        self._letters, self._offset = letters, offset

    def __len__(self) -> int:
        return len(self._offset) - 1

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [self._text(i) for i in range(*place.indices(len(self)))]
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        return self._text(place % len(self))

    def _text(self, i: int) -> str:
        return self._letters[self._offset[i] : self._offset[i + 1]].tobytes().decode()
