"""Arguments of an ingest on record: what decides the rows, whoever asks and from where."""

from oocml.data.arguments import difference, recorded


def test_defaults_of_the_reader_are_the_same_given_or_not():
    assert recorded("text", {}) == recorded("text", {"encoding": "utf-8", "min_token": 2})
    assert difference("text", recorded("text", {}), {"encoding": "utf-8"}) is None
    assert difference("text", recorded("text", {}), {"min_token": 3}) == "min_token=2, not 3"


def test_what_decides_no_rows_is_not_on_record(tmp_path):
    free = {"workers": 3, "memory": 2**30, "client": object(), "progress": print, "temp": str(tmp_path)}
    assert recorded("npy", free) == recorded("npy", {})
    assert recorded("ratings", {"share": "test", "fraction": 0.5}) == recorded("ratings", {})


def test_other_files_are_on_record_by_their_names_alone(tmp_path):
    (tmp_path / "y.npy").touch()
    assert recorded("npy", {"y": str(tmp_path / "y.npy")})["y"] == "y.npy"
    assert recorded("ratings", {"sep": "/"})["sep"] == "/", "no file"
