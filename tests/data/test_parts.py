import bz2
import gzip
import lzma

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from oocml.data import parts as parts_module
from oocml.data.ingest import ingest
from oocml.data.parts import compression, count_lines, iter_blocks, text_parts
from oocml.errors import InputError

COMPRESS = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda content: zstandard.ZstdCompressor(write_checksum=True).compress(content),
}
TEXT = b"".join(b"%d a line of some length %d\n" % (i, i * i % 977) for i in range(4000))


@given(
    lines=st.lists(st.integers(0, 12), min_size=1, max_size=20),
    newline_at_end=st.booleans(),
    part_bytes=st.integers(1, 60),
    block_bytes=st.integers(1, 20),
)
def test_blocks_of_all_parts_are_the_file(tmp_path_factory, lines, newline_at_end, part_bytes, block_bytes):
    text = b"\n".join(b"x" * n for n in lines) + b"\n" * newline_at_end
    if not text:
        return
    path = tmp_path_factory.mktemp("parts") / "x"
    path.write_bytes(text)
    found = b""
    for part in text_parts([str(path)], part_bytes):
        for block in iter_blocks(part, block_bytes):
            assert block.position == len(found)
            assert block.text[-1] == ord("\n")
            found += block.text.tobytes()
    assert found == (text if text.endswith(b"\n") else text + b"\n")


@pytest.mark.parametrize("kind", COMPRESS)
def test_compressed_files_are_one_part_whatever_they_are_called(tmp_path, kind):
    path = tmp_path / "x.txt"
    path.write_bytes(COMPRESS[kind](TEXT) + COMPRESS[kind](TEXT))
    assert compression(str(path)) == kind
    (part,) = text_parts([str(path)], 100)
    blocks = list(iter_blocks(part, 10_000))
    assert b"".join(block.text.tobytes() for block in blocks) == TEXT + TEXT
    np.testing.assert_array_equal(
        [b.position for b in blocks], np.cumsum([0, *(len(b.text) for b in blocks[:-1])])
    )


@pytest.mark.parametrize("kind", COMPRESS)
@pytest.mark.parametrize("left", [0.1, 0.5, 0.99])
def test_a_compressed_file_that_ends_early_is_named(tmp_path, kind, left):
    path = tmp_path / "x.txt"
    packed = COMPRESS[kind](TEXT)
    path.write_bytes(packed[: int(len(packed) * left)])
    with pytest.raises(InputError, match=r"x\.txt is (cut short|damaged)"):
        list(iter_blocks(text_parts([str(path)], 100)[0]))


@pytest.mark.parametrize("kind", COMPRESS)
def test_an_altered_compressed_file_is_named(tmp_path, kind):
    path = tmp_path / "x.txt"
    packed = bytearray(COMPRESS[kind](TEXT))
    packed[len(packed) // 2] ^= 0xFF
    path.write_bytes(packed)
    with pytest.raises(InputError, match=r"x\.txt is damaged"):
        list(iter_blocks(text_parts([str(path)], 100)[0]))


@pytest.mark.parametrize(
    "format", ["xmc", "csv", "text", "mtx", "docword", "ldac", "libsvm", "letor", "ratings", "interactions"]
)
@pytest.mark.parametrize("kind", COMPRESS)
def test_every_format_names_a_file_that_is_cut_before_its_first_line_ends(tmp_path, format, kind):
    path = tmp_path / "x.txt"
    path.write_bytes(COMPRESS[kind](TEXT)[:15])
    with pytest.raises(InputError, match=r"x\.txt is (cut short|damaged).*; fetch it again$"):
        ingest(format, [str(path)], str(tmp_path / "x.zarr"))
    assert list(tmp_path.iterdir()) == [path]


def test_a_line_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(parts_module, "MAX_LINE_BYTES", 1000)
    path = tmp_path / "x"
    path.write_bytes(b"x" * 5000)
    with pytest.raises(InputError, match="is it text"):
        list(iter_blocks(text_parts([str(path)], 10**6)[0], 100))


def test_missing_and_empty_files_are_named(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        text_parts([str(tmp_path / "x")], 100)
    (tmp_path / "x").touch()
    with pytest.raises(InputError, match="x is empty"):
        text_parts([str(tmp_path / "x")], 100)


def test_lines_before_a_byte_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(parts_module, "BLOCK_BYTES", 1000)
    path = tmp_path / "x"
    path.write_bytes(TEXT)
    for hi in (0, 1, 5000, len(TEXT), len(TEXT) + 10):
        assert count_lines(str(path), hi) == TEXT[:hi].count(b"\n")
