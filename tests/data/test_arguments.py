"""Arguments of an ingest on record: what decides the rows, whoever asks and from where."""

import inspect
from hashlib import sha256

from oocml.data.arguments import FILES, difference, recorded
from oocml.data.readers import reader_class


def test_defaults_of_the_reader_are_the_same_given_or_not():
    assert recorded("text", {}) == recorded("text", {"encoding": "utf-8", "min_token": 2})
    assert difference("text", recorded("text", {}), {"encoding": "utf-8"}) is None
    assert difference("text", recorded("text", {}), {"min_token": 3}) == "min_token=2, not 3"


def test_what_decides_no_rows_is_not_on_record(tmp_path):
    free = {"workers": 3, "memory": 2**30, "client": object(), "progress": print, "temp": str(tmp_path)}
    assert recorded("npy", free) == recorded("npy", {})
    assert recorded("ratings", {"share": "test", "fraction": 0.5}) == recorded("ratings", {})


def test_other_files_are_on_record_by_name_and_content(tmp_path):
    paths = [tmp_path / folder / "y.npy" for folder in "abc"]
    for path, content in zip(paths, (b"one", b"two", b"one"), strict=True):
        path.parent.mkdir()
        path.write_bytes(content)
    known = recorded("npy", {"y": str(paths[0])})
    assert known["y"] == {"name": "y.npy", "bytes": 3, "sha256": sha256(b"one").hexdigest()}
    assert difference("npy", known, {"y": paths[2]}) is None, "the same elsewhere"
    other = difference("npy", known, {"y": paths[1]})
    assert other == f"y=y.npy (3 bytes, {short(b'one')}), not y.npy (3 bytes, {short(b'two')})"
    paths[0].unlink()
    assert difference("npy", known, {"y": paths[0]}) is None, "that it is gone is for its reader to say"
    assert difference("npy", known, {}).endswith("not None")


def short(content):
    return f"sha256 {sha256(content).hexdigest()[:8]}..."


def test_what_names_a_column_or_a_separator_is_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("y", "a.b"):
        (tmp_path / name).touch()
    assert recorded("csv", {"y": "y"})["y"] == recorded("anndata", {"y": "y"})["y"] == "y"
    assert recorded("ratings", {"sep": "a.b"})["sep"] == "a.b"
    assert difference("csv", recorded("csv", {"y": "other/y"}), {"y": "y"}) == "y=other/y, not y"


def test_options_that_name_files_are_options_of_their_formats():
    for format, names in FILES.items():
        assert set(names) <= set(inspect.signature(reader_class(format)).parameters)
