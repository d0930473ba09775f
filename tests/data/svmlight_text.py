"""Text of many small svmlight rows."""

import numpy as np


def lines(n, seed=0, cols=50, classes=3):
    """Text of n rows with about six entries each."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(n):
        columns = np.unique(rng.integers(1, cols + 1, rng.integers(1, 12)))
        entries = " ".join(f"{j}:{v:.4g}" for j, v in zip(columns, rng.random(len(columns)), strict=True))
        out.append(f"{rng.integers(classes)} {entries}\n")
    return "".join(out)


def put(path, text):
    path.write_text(text)
    return path


def files_of(path):
    """Name and content of every file below a folder."""
    return {str(f.relative_to(path)): f.read_bytes() for f in path.rglob("*") if f.is_file()}
