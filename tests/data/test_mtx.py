import gzip

import numpy as np
import pytest
import scipy.io
import scipy.sparse as sp

from oocml.data.mtx import MtxReader
from oocml.data.readers import BadLines, TooManyBad, make_reader
from oocml.errors import InputError
from tests.data.assembling import Assembled, assert_reads

MATRIX = sp.random_array((60, 23), density=0.2, rng=np.random.default_rng(0), dtype=np.float32).tocsr()


def market(tmp_path, text, name="x.mtx"):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return tmp_path / name


HEAD = "%%MatrixMarket matrix coordinate real general\n"


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.usefixtures("tiny_batches")
def test_matrix_written_by_scipy_comes_back(tmp_path, monkeypatch, transposed, packed):
    monkeypatch.setattr("oocml.data.mtx.BLOCK_BYTES", 300)
    M = MATRIX.tocsc().tocoo()  # by column, as most files are
    scipy.io.mmwrite(tmp_path / "x.mtx", M, precision=9)
    path = tmp_path / "x.mtx"
    if packed:
        path = market(tmp_path, gzip.compress(path.read_bytes()), "x.mtx.gz")
    got = Assembled(MtxReader(transposed=transposed), [path])
    assert_reads(got, MATRIX.T if transposed else MATRIX)


@pytest.mark.parametrize(("field", "kind"), [("symmetric", np.int64), ("skew-symmetric", np.float64)])
def test_symmetric_matrix_is_filled_in(tmp_path, field, kind):
    rng = np.random.default_rng(0)
    lower = np.tril(rng.integers(0, 4, (6, 6)), k=-1).astype(kind)
    whole = lower + lower.T if field == "symmetric" else lower - lower.T
    scipy.io.mmwrite(tmp_path / "x.mtx", sp.coo_matrix(whole), symmetry=field)
    assert field in (tmp_path / "x.mtx").read_text()
    assert_reads(Assembled(MtxReader(), [tmp_path / "x.mtx"]), whole)


def test_pattern_and_repeated_entries(tmp_path):
    text = "%%MatrixMarket matrix coordinate pattern general\n%comment\n\n3 2 3\n1 2\n3 1\n1 2\n"
    assert_reads(Assembled(MtxReader(), [market(tmp_path, text)]), [[0, 2], [0, 0], [1, 0]])


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("end", ["", "\n", "\n\n"])
def test_blank_lines_and_line_ends_do_not_matter(tmp_path, newline, end):
    text = f"{HEAD}% made by hand\n2 3 2\n1 1 2.5\n\n2 3 -1e2{end}".replace("\n", newline)
    assert_reads(Assembled(MtxReader(), [market(tmp_path, text)]), [[2.5, 0, 0], [0, 0, -100]])


def test_labels_stand_beside_a_market_file(tmp_path):
    np.save(tmp_path / "y.npy", np.array(["b", "a"]))
    reader = make_reader("mtx", {"y": str(tmp_path / "y.npy"), "transposed": "true"})
    got = Assembled(reader, [market(tmp_path, f"{HEAD}3 2 1\n1 1 2\n")])
    assert got.X.shape == (2, 3)
    assert got.classes == ["b", "a"]


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("1 1 nan", "'1 1 nan': the value is not finite"),
        ("1 1 1e39", "too large for float32"),
        ("0 1 2", "'0 1 2' lies outside a matrix of 3 x 2"),
        ("1 3 2", "lies outside"),
        ("1 x 2", "'1 x 2' is not three numbers"),
        ("1 2", "'1 2' is not 'row column value'"),
    ],
)
def test_bad_entry_is_named_with_its_line(tmp_path, entry, reason):
    path = market(tmp_path, f"{HEAD}% a comment\n3 2 3\n1 1 5\n\n{entry}\n3 2 6\n")
    reader = MtxReader()
    (part,) = reader.parts([str(path)], 1 << 20)
    bad = BadLines(0)
    with pytest.raises(TooManyBad):
        list(reader.read(part, bad))
    assert bad.first_line + 1 == 6
    assert reason in bad.first_reason
    assert_reads(Assembled(MtxReader(), [path], max_bad=1), [[5, 0], [0, 0], [0, 6]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 3\n", "no %%MatrixMarket in its first line"),
        ("%%MatrixMarket matrix array real general\n2 2\n", "matrix array, not a matrix coordinate"),
        (HEAD.replace("real", "complex"), "holds complex numbers"),
        (HEAD.replace("general", "hermitian"), "is hermitian"),
        (f"{HEAD}% only comments\n", "ends before its size line"),
        (f"{HEAD}2 2\n", "line 2: .* is not 'rows columns entries'"),
        (f"{HEAD}0 2 0\n", "has no rows"),
        (f"{HEAD}2 2 3\n1 1 1\n", "promises 3 entries and has 1; is it cut short"),
        (f"{HEAD}2 2 1\n1 1 1\n2 2 2\n", "promises 1 entries and has 2"),
    ],
)
def test_other_files_are_refused(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        Assembled(MtxReader(), [market(tmp_path, text)])
