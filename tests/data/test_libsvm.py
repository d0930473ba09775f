import numpy as np
import pytest

from oocml.data.libsvm import LibsvmReader, parse_block
from oocml.data.parts import Block
from oocml.data.readers import BadLines


def parse(text, max_bad=0):
    bad = BadLines(max_bad)
    block = Block(np.frombuffer(text.encode(), np.uint8), 0)
    batch, n_lines = parse_block(block, bad, 0, "x.svm")
    assert n_lines == text.count("\n")
    return batch, bad


def rows(text):
    batch, _ = parse(text)
    X, labels = batch.X, batch.labels
    return [
        (
            labels.values[labels.indptr[i] : labels.indptr[i + 1]].tolist(),
            dict(
                zip(
                    X.indices[X.indptr[i] : X.indptr[i + 1]].tolist(),
                    X.data[X.indptr[i] : X.indptr[i + 1]].tolist(),
                    strict=True,
                )
            ),
        )
        for i in range(len(batch.position))
    ]


@pytest.mark.parametrize(
    ("line", "labels", "features"),
    [
        ("1 3:0.5 7:2", [1], {3: 0.5, 7: 2}),
        ("-1.5 3:-2e-1", [-1.5], {3: np.float32(-0.2)}),
        ("+1\t3:1\t4:2  ", [1], {3: 1, 4: 2}),
        ("1,5,7 3:1", [1, 5, 7], {3: 1}),
        ("1, 5 ,7 3:1", [1, 5, 7], {3: 1}),
        ("3:1 4:1", [], {3: 1, 4: 1}),
        ("  3:1", [], {3: 1}),
        ("4", [4], {}),
        ("4 ", [4], {}),
        ("1 qid:12 3:1", [1], {3: 1}),
        ("1 3:1 # docid = GX001 1:5", [1], {3: 1}),
        ("1 3:1#c", [1], {3: 1}),
        ("1 3:1\r", [1], {3: 1}),
        ("1 9:9 3:3 5:5", [1], {3: 3, 5: 5, 9: 9}),
        ("1 3:0 4:1 5:0.0 6:1e-60", [1], {4: 1}),
        ("1 0:1 2147483647:1", [1], {0: 1, 2147483647: 1}),
        ("1 3:0.10000000149011611938476562500001", [1], {3: np.float32(0.1)}),
    ],
)
def test_a_line_means(line, labels, features):
    assert rows(line + "\n") == [(labels, features)]


def test_blank_lines_and_comments_are_no_rows():
    assert rows("\n# a file\n1 1:1\n   \n\t\r\n2 1:2\n") == [([1], {1: 1}), ([2], {1: 2})]


def test_queries_are_kept():
    batch, _ = parse("1 qid:12 3:1\n2 qid:13 3:1\n")
    assert batch.qid.tolist() == [12, 13]
    assert parse("1 3:1\n")[0].qid is None


def test_positions_are_where_lines_begin():
    text = "1 1:1\n\n22 1:1\n bad\n3 1:1\n"
    batch, bad = parse(text, max_bad=1)
    assert [text[at : at + 2] for at in batch.position] == ["1 ", "22", "3 "]
    assert bad.count == 1


def test_index_range_counts_explicit_zeros_but_no_bad_lines():
    assert parse("1 0:0 5:1\n")[0].index_range == (0, 5)
    assert parse("1 9:1 9:1\n1 2:1\n", max_bad=1)[0].index_range == (2, 2)
    assert parse("1\n")[0].index_range == (-1, -1)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("x 1:1", "label 'x' is not a number"),
        ("nan 1:1", "label 'nan' is not a number"),
        ("1e999 1:1", "number '1e999' is out of range"),
        ("1 1:1 2", "'2' is not index:value"),
        ("1 a:1", "'a:1' is not index:value"),
        ("1 -3:1", "'-3:1' is not index:value"),
        ("1 1.5:1", "'1.5:1' is not index:value"),
        ("1 quid:3", "'quid:3' is not index:value"),
        ("1 qid:x 1:1", "'x' is not a query number"),
        ("1 1:", "value '' is not a finite number"),
        ("1 1: 2:3", "is not a finite number"),
        ("1 1:nan", "value 'nan' is not a finite number"),
        ("1 1:inf", "value 'inf' is not a finite number"),
        ("1 1:0x10", "value '0x10' is not a finite number"),
        ("1 1:1.2.3", "value '1.2.3' is not a finite number"),
        ("1 1:1,2", "value '1,2' is not a finite number"),
        ("1 1:1e39", "number '1e39' is out of range"),
        ("1 2147483648:1", "index of '2147483648:1' is beyond 2147483647"),
        ("1 3:1 3:2", "index 3 occurs twice"),
        ("1 5:1 3:2 5:1", "index 5 occurs twice"),
        ("1 " + " ".join(f"{j}:1" for j in range(200, 100, -1)) + " 150:1", "index 150 occurs twice"),
    ],
)
def test_a_bad_line_is_named_and_skipped(line, reason):
    batch, bad = parse(f"1 1:1\n{line}\n2 2:2\n", max_bad=1)
    assert (bad.count, bad.first_line) == (1, 1)
    assert reason in bad.first_reason
    assert batch.labels.values.tolist() == [1, 2]
    assert batch.X.indices.tolist() == [1, 2]


def test_parts_hold_every_line_once(tmp_path):
    rng = np.random.default_rng(0)
    lines = [f"{i} " + " ".join(f"{j}:1" for j in range(1, rng.integers(1, 30))) for i in range(200)]
    path = tmp_path / "x.svm"
    path.write_text("\n".join(lines))
    for part_bytes in (1, 7, 100, 3000, 10**6):
        reader = LibsvmReader()
        parts = reader.parts([str(path)], part_bytes)
        labels = [b.labels.values for part in parts for b in reader.read(part, BadLines(0))]
        np.testing.assert_array_equal(np.concatenate(labels), np.arange(200))
