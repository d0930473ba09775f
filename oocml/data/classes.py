"""Classes that come as names: their numbers, which depend on nothing but the names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from oocml.types import Float64Array

if TYPE_CHECKING:
    from oocml.data.dataset import Dataset


PartMap = Callable[[int], Any]
"""A map per part: what ``Schema.column_map`` and ``Schema.label_map`` are. None for a part that needs none."""


def no_map(part: int) -> None:
    """No part needs a map."""
    del part


class ClassNumbers:
    """Numbers for the class names of a part, in order of first sight."""

    def __init__(self) -> None:
        self._number_of: dict[str, int] = {}

    @property
    def names(self) -> list[str]:
        return list(self._number_of)

    def of(self, names: npt.NDArray[Any]) -> Float64Array:
        """The number of each name, NaN for empty ones."""
        distinct, first, inverse = np.unique(names, return_index=True, return_inverse=True)
        numbers = np.full(len(distinct), np.nan)
        for k in np.argsort(first).tolist():
            if name := str(distinct[k]):
                numbers[k] = self._number_of.setdefault(name, len(self._number_of))
        return numbers[inverse]


def number_classes(found: Iterable[str], like: Dataset | None) -> tuple[list[str], Float64Array]:
    """Class names and their labels, increasing.

    Without ``like`` 0, 1, ... in sorted order of the names. With it the training set's; classes it never saw come
    behind, in sorted order, so that no model can take them for a class it knows.
    """
    names = sorted(set(found))
    if like is None or like.label_names is None or like.labels is None:
        return names, np.arange(len(names), dtype=np.float64)
    if not names:
        return [], np.zeros(0)
    labels = np.asarray(like.labels, np.float64)
    new = sorted(set(names) - set(like.label_names))
    return [*like.label_names, *new], np.r_[labels, labels.max(initial=-1) + 1 + np.arange(len(new))]


def label_maps(classes_of: Callable[[int], list[str]], names: list[str], labels: Float64Array) -> PartMap:
    """The label of each class of a part, given each part's own list of classes."""
    label_of = dict(zip(names, labels.tolist(), strict=True))

    def labels_of(part: int) -> Float64Array:
        return np.array([label_of[name] for name in classes_of(part)], np.float64)

    return labels_of
