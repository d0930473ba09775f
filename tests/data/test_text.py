import gzip
import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer

from oocml.data.readers import BadLines, TooManyBad, make_reader
from oocml.data.text import TextReader
from oocml.errors import InputError, UsageError
from tests.data.assembling import Assembled

LINES = [
    "ham\tThe cat sat on the mat, on THE mat",
    "spam\tBuy now! Buy café naïve x y",
    "",
    "ham\t",
    "eggs\tcat_1 dog's 42",
    "\tno class here",
]


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "some.txt"
    file.write_text("\n".join(LINES) + "\n")
    return file


def written(tmp_path, text, name="text.txt"):
    file = tmp_path / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def like_of(assembled):
    """As much of a dataset as a reader asks of the training set."""
    schema = assembled.schema
    return types.SimpleNamespace(
        path="train.zarr",
        attrs=dict(schema.attrs),
        n_cols=schema.n_cols,
        feature_names=schema.feature_names,
        label_names=schema.label_names,
        labels=schema.labels,
        label_kind=schema.label_kind,
        index_base=0,
    )


def test_counts_and_words_are_those_of_scikit_learn(path):
    got = Assembled(TextReader(), [path])
    oracle = CountVectorizer()
    want = oracle.fit_transform([line.partition("\t")[2] for line in LINES if line])
    assert list(got.schema.feature_names) == oracle.get_feature_names_out().tolist()
    np.testing.assert_array_equal(got.X.toarray(), want.toarray())
    assert got.classes == ["ham", "spam", "ham", "eggs", None]
    assert list(got.schema.label_names) == ["eggs", "ham", "spam"]
    assert got.schema.label_kind == "number"


TEXTS = st.lists(
    st.tuples(st.sampled_from(["a", "b", "cé", ""]), st.text(alphabet="abcé \r.", max_size=12)), max_size=12
)


@given(rows=TEXTS, part_bytes=st.integers(1, 60), header=st.integers(0, 3))
def test_how_the_file_is_cut_changes_nothing(tmp_path_factory, rows, part_bytes, header):
    raw = "# header\n" * header + "c\tone\n" + "\n".join(f"{name}\t{text}" for name, text in rows)
    file = written(tmp_path_factory.mktemp("cut"), raw)
    want = Assembled(TextReader(header=header, min_token=1), [file])
    got = Assembled(TextReader(header=header, min_token=1), [file], part_bytes=part_bytes)
    assert got.schema.feature_names == want.schema.feature_names
    assert got.schema.label_names == want.schema.label_names
    assert got.labels == want.labels
    assert got.position == want.position
    np.testing.assert_array_equal(got.X.toarray(), want.X.toarray())
    kept = [text for name, text in rows if (name + text).strip()]
    assert got.X.shape[0] == 1 + len(kept)
    words = [w for text in ["one", *kept] for w in text.lower().replace(".", " ").split()]
    assert got.X.sum() == len(words)


def test_compressed_file_reads_as_the_plain_one(tmp_path, path):
    packed = written(tmp_path, gzip.compress(path.read_bytes()), "some.txt.gz")
    want, got = (Assembled(TextReader(header=1, classes="yes"), [file]) for file in (path, packed))
    assert got.position == want.position
    assert got.labels == want.labels
    np.testing.assert_array_equal(got.X.toarray(), want.X.toarray())


def test_byte_order_mark_is_no_part_of_the_first_class(tmp_path):
    file = written(tmp_path, b"\xef\xbb\xbfham\tone two\nspam\tthree\n")
    got = Assembled(TextReader(), [file])
    assert got.classes == ["ham", "spam"]
    assert got.position == [0, 15]


def test_text_without_classes_has_no_labels(tmp_path):
    got = Assembled(TextReader(), [written(tmp_path, "one two\nthree\ttwo\n")])
    assert got.schema.label_kind == "none"
    assert got.labels == []
    assert got.schema.feature_names == ["one", "three", "two"]


def test_classes_can_be_forced_or_refused(tmp_path):
    file = written(tmp_path, "one\ttwo\nthree\tfour\n")
    assert Assembled(TextReader(classes="no"), [file]).X.shape == (2, 4)
    assert Assembled(TextReader(classes="yes"), [file]).X.shape == (2, 2)
    other = written(tmp_path, "one two\n", "other.txt")
    with pytest.raises(
        InputError, match="other.txt lacks a class .*unlike .*text.txt.*classes=yes or classes=no"
    ):
        Assembled(TextReader(), [file, other])


def test_rare_words_can_be_left_out(path):
    got = Assembled(TextReader(min_count=2), [path])
    assert got.schema.feature_names == ["buy", "mat", "on", "the"]
    assert got.n_dropped > 0
    got = Assembled(TextReader(max_features=3), [path])
    assert got.schema.feature_names == ["buy", "mat", "the"]


def test_hashing_needs_no_vocabulary_and_keeps_every_token(path):
    got = Assembled(TextReader(hashing=1024), [path], part_bytes=40)
    assert got.schema.n_cols == 1024
    assert got.schema.feature_names is None
    want = Assembled(TextReader(), [path])
    assert got.X.sum() == want.X.sum()
    # No two of the words share a bucket, so the columns are the same in another order.
    assert sorted(got.X.sum(axis=0).tolist()[0])[-want.X.shape[1] :] == sorted(want.X.sum(axis=0).tolist()[0])


def test_words_beyond_the_limit_are_dropped_and_counted(tmp_path, monkeypatch):
    monkeypatch.setattr("oocml.data.text.MAX_WORDS", 6)
    monkeypatch.setattr("oocml.data.text.BLOCK_BYTES", 30)
    documents = [f"one one a{i} b{i} c{i} d{i} two" for i in range(12)]
    got = Assembled(TextReader(), [written(tmp_path, "\n".join(documents))], part_bytes=100)
    assert len(got.parts) > 1
    attrs = got.schema.attrs["text"]
    assert attrs["n_words_pruned"] > 0
    assert attrs["n_tokens_crowded"] > 0
    names = got.schema.feature_names
    assert len(names) <= 6
    np.testing.assert_array_equal(got.X[:, [names.index("one"), names.index("two")]].toarray(), [[2, 1]] * 12)
    assert got.X.sum() + got.n_dropped + attrs["n_tokens_crowded"] == 12 * 7


def test_test_data_gets_the_columns_and_classes_of_the_training_set(tmp_path, path):
    train = Assembled(TextReader(), [path])
    file = written(tmp_path, "spam\tthe zebra buy\nnew\tcat zebra\nham\tnothing known\n", "test.txt")
    got = Assembled(TextReader(), [file], like=like_of(train))
    assert got.schema.feature_names == train.schema.feature_names
    assert got.X.shape[1] == train.X.shape[1]
    assert got.n_dropped == 4
    words = [[train.schema.feature_names[j] for j in row.indices] for row in got.X]
    assert [sorted(row) for row in words] == [["buy", "the"], ["cat"], []]
    assert got.schema.label_names[:3] == train.schema.label_names
    assert got.labels == [[2.0], [3.0], [1.0]]
    assert got.schema.drop_unseen


def test_test_data_without_classes_is_unlabelled(tmp_path, path):
    train = Assembled(TextReader(), [path])
    got = Assembled(TextReader(), [written(tmp_path, "the cat\n", "test.txt")], like=like_of(train))
    assert got.schema.label_kind == "none"
    assert got.schema.labels is None


def test_test_data_read_in_another_way_is_refused(path):
    train = Assembled(TextReader(), [path])
    with pytest.raises(InputError, match="train.zarr was read with min_token=2, not 1"):
        Assembled(TextReader(min_token=1), [path], like=like_of(train))
    with pytest.raises(InputError, match="was read with hashing=None, not 64"):
        Assembled(TextReader(hashing=64), [path], like=like_of(train))


@pytest.mark.parametrize(
    ("raw", "line", "reason"),
    [
        (b"a\tone\nb\ttwo\nthree\n", 2, "no TAB"),
        (b"a\tone\n\n\nb\t\xff\xfe\n", 3, "byte 0xff is not utf-8"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_bad_line_is_named_and_stops_the_reading_unless_allowed(tmp_path, raw, line, reason, packed):
    raw = b"# a header\n" + raw
    file = written(tmp_path, gzip.compress(raw) if packed else raw)
    reader = TextReader(header=1)
    (part,) = reader.parts([str(file)], 1 << 20)
    bad = BadLines(0)
    with pytest.raises(TooManyBad):
        list(reader.read(part, bad))
    # Numbers count from the part's first line; a compressed file's part begins at the header.
    assert bad.first_line == line + packed
    assert reason in bad.first_reason
    got = Assembled(reader, [file], max_bad=1)
    assert got.bad[0].count == 1
    assert got.X.shape[0] >= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hashing": 1000}, "not a power of 2"),
        ({"hashing": 1024, "min_count": 2}, "leave out min_count"),
        ({"min_token": 0}, "min_token=0 is not a whole number from 1 on"),
        ({"max_features": "many"}, "max_features='many'"),
        ({"classes": "maybe"}, "auto, yes, no"),
        ({"encoding": "utf-16"}, "convert the files to utf-8"),
        ({"encoding": "martian"}, "unknown"),
        ({"stop_words": "english"}, "no option 'stop-words'"),
    ],
)
def test_meaningless_options_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        make_reader("text", options)


def test_options_may_come_as_words_from_the_command_line(path):
    reader = make_reader("text", {"header": "1", "min_token": "1"})
    assert Assembled(reader, [path]).X.shape[0] == 4


def test_missing_and_empty_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="absent.txt"):
        TextReader().parts([str(tmp_path / "absent.txt")], 1 << 20)
    with pytest.raises(InputError, match="is empty"):
        TextReader().parts([str(written(tmp_path, b""))], 1 << 20)


def test_real_documents_come_back_from_their_words(tmp_path, shared_data):
    """Text made of a real matrix of counts gives that matrix."""
    with gzip.open(shared_data("news20/vocab.txt.gz"), "rt") as file:
        vocabulary = file.read().split()
    with gzip.open(shared_data("news20/train.svm.gz"), "rt") as file:
        rows = [line.split() for _, line in zip(range(1000), file, strict=False)]
    lines = []
    for label, *entries in rows:
        counts = [entry.split(":") for entry in entries]
        lines.append(f"class {label}\t" + " ".join(f"{vocabulary[int(j) - 1]} " * int(n) for j, n in counts))
    file = written(tmp_path, "Category\tText\n" + "\n".join(lines))
    got = Assembled(TextReader(header=1, min_token=1), [file], part_bytes=200_000)
    names = got.schema.feature_names
    for i in range(0, 1000, 37):
        row = {names[j]: n for j, n in zip(got.X[i].indices, got.X[i].data, strict=True)}
        want = {vocabulary[int(j) - 1]: float(n) for j, n in (entry.split(":") for entry in rows[i][1:])}
        assert row == want
    assert got.classes == [f"class {row[0]}" for row in rows]
