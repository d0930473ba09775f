"""Turning small delivered files that no ingest format reads into ``.npz`` files that it does.

Inside are ``y``, ``label_names`` where classes have names, and the features: as ``X``, or as the members of a scipy
CSR matrix where many of them are 0.
"""

from __future__ import annotations

import csv
import gzip
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from oocml.errors import InputError

DENSE_FROM = 0.75
"""Features are kept as a plain array from this share of non-zero values on."""


def convert(kind: str, inputs: Sequence[Path], out: Path, options: Mapping[str, Any]) -> Path:
    """Make ``out`` of the inputs; it appears only when whole.

    ``kind`` is ``"idx"`` (images and labels in the format of MNIST) or ``"table"`` (comma-separated rows whose
    last field is the class or the target; option ``header``: lines to skip).
    """
    if kind == "idx":
        images, labels = (read_idx(path) for path in inputs)
        arrays: dict[str, npt.NDArray[Any]] = {
            "X": images.reshape(len(images), -1),
            "y": labels.astype(np.float64),
        }
    else:
        arrays = read_table(inputs[0], header=int(options.get("header", 0)))
    X = arrays["X"]
    if np.count_nonzero(X) < DENSE_FROM * X.size:
        arrays = {k: v for k, v in arrays.items() if k != "X"} | _csr_members(X)
    partial = out.with_name(f".{out.name}.partial")
    try:
        with partial.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    return out


def _csr_members(X: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    """What `scipy.sparse.save_npz` would write."""
    csr = sp.csr_array(X)
    members = {"indptr": csr.indptr, "indices": csr.indices, "data": csr.data, "shape": np.array(X.shape)}
    return members | {"format": np.array(b"csr")}


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """An array in IDX format (big-endian header: two zero bytes, a type, the number of axes, their lengths)."""
    with gzip.open(path) as file:
        content = file.read()
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise InputError(f"{path} is not an IDX file of bytes")
    axes = content[3]
    shape = struct.unpack_from(f">{axes}I", content, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


def read_table(path: Path, *, header: int = 0) -> dict[str, npt.NDArray[Any]]:
    """Numbers and a last field that is a number or a name; names become the ranks of the sorted names."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", newline="") as file:
        rows = [row for row in csv.reader(file) if row and not row[0].startswith("@")][header:]
    try:
        features = np.array([row[:-1] for row in rows], dtype=np.float32)
        arrays: dict[str, npt.NDArray[Any]] = {"X": features}
    except ValueError as error:
        raise InputError(f"{path} is not a table of numbers: {error}") from None
    last = [row[-1].strip() for row in rows]
    try:
        arrays["y"] = np.array(last, dtype=np.float64)
    except ValueError:
        names, codes = np.unique(last, return_inverse=True)
        arrays |= {"y": codes.astype(np.float64), "label_names": names}
    return arrays
