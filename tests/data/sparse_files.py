"""Random sparse rows and the many ways to write them as svmlight text."""

import bz2
import gzip
import lzma
from typing import NamedTuple

import numpy as np
import zstandard
from hypothesis import strategies as st

values = st.one_of(
    st.integers(-99, 99).filter(bool).map(float),
    st.floats(-1e6, 1e6, width=32).filter(lambda v: abs(v) > 1e-30),
)
rows = st.dictionaries(st.integers(0, 40), values, max_size=8)


class Style(NamedTuple):
    """How a file is written."""

    base: int
    newline: str
    blank_after_comma: bool
    shuffled: bool
    comments: bool
    trailing_newline: bool
    compression: str
    number: str


styles = st.builds(
    Style,
    base=st.integers(0, 1),
    newline=st.sampled_from(["\n", "\r\n"]),
    blank_after_comma=st.booleans(),
    shuffled=st.booleans(),
    comments=st.booleans(),
    trailing_newline=st.booleans(),
    compression=st.sampled_from(["", "gz", "bz2", "xz", "zst"]),
    number=st.sampled_from(["{!r}", "{:.9g}", "{:.17e}"]),
)

COMPRESS = {
    "": bytes,
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda content: zstandard.ZstdCompressor().compress(content),
}


def write(path, data, style, seed=0):
    """Write rows of (labels, {column: value}); returns the path."""
    rng = np.random.default_rng(seed)
    lines = []
    for labels, row in data:
        columns = list(row)
        if style.shuffled:
            rng.shuffle(columns)
        else:
            columns.sort()
        separator = ", " if style.blank_after_comma else ","
        fields = [separator.join(f"{label:g}" for label in labels)] if labels else []
        fields += [f"{j + style.base}:" + style.number.format(float(row[j])) for j in columns]
        line = " ".join(fields)
        if style.comments and line and rng.random() < 0.3:
            line += " # 3:4"
        lines.append(line)
    text = style.newline.join(lines) + (style.newline if style.trailing_newline else "")
    path.write_bytes(COMPRESS[style.compression](text.encode()))
    return path
