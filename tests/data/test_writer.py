import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from oocml.data.dataset import Dataset
from oocml.data.label_table import MAX_LABELS, LabelTable
from oocml.data.writer import DatasetWriter
from oocml.errors import InputError, RunBusy, UsageError
from oocml.types import Csr, Panel


def panel(rows, columns, y=None):
    """One entry per row."""
    n = len(rows)
    X = Csr(np.arange(n + 1), np.asarray(columns, np.int32), np.arange(1, n + 1, dtype=np.float32))
    return Panel(X, y, np.asarray(rows, np.int64))


def files_of(path):
    found = {}
    for where, _, names in os.walk(path):
        for name in names:
            file = os.path.join(where, name)
            with open(file, "rb") as content:
                found[os.path.relpath(file, path)] = content.read()
    return found


def test_order_and_repetition_of_panels_do_not_change_the_bytes(tmp_path):
    panels = [panel([2 * p, 2 * p + 1], [p, 3], np.array([p, np.nan])) for p in range(4)]
    stored = []
    for name, order in (("a", [0, 1, 2, 3]), ("b", [3, 1, 0, 1, 2])):
        writer = DatasetWriter(tmp_path / name, n_cols=4, label_kind="number")
        for p in order:
            pickle.loads(pickle.dumps(writer)).write_panel(p, panels[p])
        stored.append(files_of(writer.finish(n_panels=4)))
    assert stored[0] == stored[1]


def test_panels_with_gaps_are_renumbered(tmp_path):
    writer = DatasetWriter(tmp_path / "d", n_cols=3, label_kind="none")
    for n, p in enumerate([1000, 7, 1]):
        writer.write_panel(p, panel([n], [n]))
    dataset = Dataset.open(writer.finish(n_panels=3, panels=[1, 7, 1000]))
    np.testing.assert_array_equal(dataset.row_ids[:], [2, 1, 0])
    assert dataset.info(deep=True)["whole"]


def test_nothing_opens_before_the_end_and_nothing_is_left_after(tmp_path):
    writer = DatasetWriter(tmp_path / "d", n_cols=3, label_kind="none")
    writer.write_panel(0, panel([0], [1]))
    for path in (tmp_path / "d", tmp_path / "d.partial", tmp_path / "d.partial/store"):
        with pytest.raises(InputError):
            Dataset.open(path)
    writer.finish(n_panels=1)
    assert os.listdir(tmp_path) == ["d"]


def test_discard_leaves_nothing(tmp_path):
    writer = DatasetWriter(tmp_path / "d", n_cols=3, label_kind="none")
    writer.write_panel(0, panel([0], [1]))
    writer.discard()
    assert os.listdir(tmp_path) == []


def test_leftovers_of_a_killed_writer_are_taken_over(tmp_path):
    code = (
        "import os, sys\nfrom oocml.data.writer import DatasetWriter\n"
        "DatasetWriter(sys.argv[1], n_cols=3, label_kind='none')\nos.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "d")], check=False, cwd=os.getcwd())
    assert os.listdir(tmp_path) == ["d.partial"]
    writer = DatasetWriter(tmp_path / "d", n_cols=3, label_kind="none")
    writer.write_panel(0, panel([0], [1]))
    assert Dataset.open(writer.finish(n_panels=1)).n_rows == 1


def test_half_written_chunks_do_not_end_up_in_the_dataset(tmp_path):
    writer = DatasetWriter(tmp_path / "d", n_cols=3, label_kind="none")
    writer.write_panel(0, panel([0], [1]))
    for name in ("panels/0", "panels/0/X/data/c"):
        (tmp_path / "d.partial/store" / name / "0.3ac1fbca.partial").touch()
    writer.finish(n_panels=1)
    assert not list((tmp_path / "d").rglob("*.partial"))


def test_two_writers_of_one_path_exclude_each_other(tmp_path):
    writer = DatasetWriter(tmp_path / "d", n_cols=3, label_kind="none")
    with pytest.raises(RunBusy, match="another process"):
        DatasetWriter(tmp_path / "d", n_cols=3, label_kind="none")
    writer.discard()


def test_existing_dataset_is_replaced_only_on_request(tmp_path):
    for n in (1, 2):
        writer = DatasetWriter(tmp_path / "d", n_cols=3, label_kind="none", overwrite=n == 2)
        writer.write_panel(0, panel(range(n), [0] * n))
        writer.finish(n_panels=1)
    assert Dataset.open(tmp_path / "d").n_rows == 2
    with pytest.raises(UsageError, match="exists"):
        DatasetWriter(tmp_path / "d", n_cols=3, label_kind="none")


def test_overwrite_spares_what_is_no_dataset(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="is not a dataset; remove it yourself"):
        DatasetWriter(tmp_path / "d", n_cols=3, label_kind="none", overwrite=True)
    assert (tmp_path / "d/thesis.tex").exists()


def test_missing_panel_is_refused(tmp_path):
    writer = DatasetWriter(tmp_path / "d", n_cols=3, label_kind="none")
    writer.write_panel(1, panel([0], [1]))
    with pytest.raises(InputError, match="1 of 2 panels were never written"):
        writer.finish(n_panels=2)
    writer.discard()


def test_column_outside_is_refused(tmp_path):
    writer = DatasetWriter(tmp_path / "d", n_cols=3, label_kind="none")
    with pytest.raises(InputError, match="column 3 outside"):
        writer.write_panel(0, panel([0], [3]))
    writer.discard()


def test_missing_folder_is_one_line(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        DatasetWriter(tmp_path / "no/d", n_cols=3, label_kind="none")


def test_rows_span_chunks(tmp_path):
    writer = DatasetWriter(tmp_path / "d", n_cols=1, label_kind="number")
    sizes = [20_000, 0, 5, 30_000]
    start = 0
    for p, size in enumerate(sizes):
        rows = np.arange(start, start + size)
        writer.write_panel(p, panel(rows, np.zeros(size), rows / 2))
        start += size
    dataset = Dataset.open(writer.finish(n_panels=4))
    np.testing.assert_array_equal(dataset.panel_bounds, np.concatenate([[0], np.cumsum(sizes)]))
    np.testing.assert_array_equal(dataset.row_ids[:], np.arange(start))
    np.testing.assert_array_equal(dataset.read_labels(3), np.arange(20_005, 50_005) / 2)
    assert dataset.labels is None, "halves are no classes"
    assert dataset.info(deep=True)["whole"]


def test_label_table_gives_up_on_fractions_and_on_too_many():
    table = LabelTable()
    table.add(np.array([3, np.nan, -1]))
    table.add(np.array([2.0]))
    np.testing.assert_array_equal(table.labels, [-1, 2, 3])
    table.add(np.arange(MAX_LABELS, dtype=float))
    assert table.labels is None
    table = LabelTable()
    table.add(np.array([0.5]))
    table.add(np.array([1.0]))
    assert table.labels is None


def test_transform_keeps_scalars_and_arrays(tmp_path):
    writer = DatasetWriter(tmp_path / "d", n_cols=3, label_kind="none")
    writer.write_panel(0, panel([0], [1]))
    writer.finish(n_panels=1, transform={"kind": "tfidf", "n_rows": 5, "idf": np.array([1.0, 2, 3])})
    transform = Dataset.open(tmp_path / "d").transform
    assert (transform["kind"], transform["n_rows"]) == ("tfidf", 5)
    np.testing.assert_array_equal(transform["idf"], [1, 2, 3])
