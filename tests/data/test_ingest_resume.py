"""An ingest that stops at any point goes on from there and ends with the same bytes."""

import contextlib
import errno
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from oocml.data import ingest_panels, ingest_parts, writer
from oocml.data.dataset import Dataset
from oocml.data.ingest import BASE_BYTES, WORKER_BYTES, ingest
from oocml.errors import DoesNotFit, InputError
from tests.data.svmlight_text import files_of, lines, put


class Killed(BaseException):
    """What the injected fault raises; nothing catches it."""


class FaultAt:
    """Lets n calls of several functions pass, then raises for good."""

    def __init__(self, n, error=Killed):
        self.n, self.error, self.calls = n, error, 0

    def wrap(self, function):
        def faulty(*args, **kwargs):
            self.calls += 1
            if self.calls > self.n:
                raise self.error()
            return function(*args, **kwargs)

        return faulty


def inject(monkeypatch, fault):
    for where, name in (
        (ingest_parts, "write_spill"),
        (ingest_parts, "save"),
        (ingest_panels, "save"),
        (writer.DatasetWriter, "write_panel"),
        (writer, "write_array"),
        (writer.os, "rename"),
    ):
        monkeypatch.setattr(where, name, fault.wrap(getattr(where, name)))


ARGUMENTS = {"workers": 1, "panel_bytes": 2000, "transform": "tfidf"}


@pytest.fixture
def undisturbed(tmp_path, small):
    """Source, the bytes of its dataset, and how many operations an ingest takes."""
    source = put(tmp_path / "x.svm", lines(60))
    with pytest.MonkeyPatch.context() as patch:
        fault = FaultAt(1 << 30)
        inject(patch, fault)
        ingest("libsvm", source, tmp_path / "undisturbed.zarr", **ARGUMENTS)
    return source, files_of(tmp_path / "undisturbed.zarr"), fault.calls


def test_stopped_at_any_operation_it_ends_with_the_same_bytes(tmp_path, undisturbed):
    source, wanted, n_calls = undisturbed
    assert n_calls > 30
    for n in range(0, n_calls, 4):
        out = tmp_path / f"{n}.zarr"
        with pytest.MonkeyPatch.context() as patch:
            inject(patch, FaultAt(n))
            with pytest.raises(Killed):
                ingest("libsvm", source, out, **ARGUMENTS)
        with pytest.raises(InputError):
            Dataset.open(out)
        ingest("libsvm", source, out, **ARGUMENTS)
        assert files_of(out) == wanted
        assert not (tmp_path / f"{n}.zarr.partial").exists()


def test_stopped_again_and_again_it_still_ends_with_the_same_bytes(tmp_path, undisturbed):
    """Every attempt gets a few operations further only because of what the ones before left behind."""
    source, wanted, n_calls = undisturbed
    out = tmp_path / "x.zarr"
    stops = 0
    while not out.exists():
        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Killed):
            inject(patch, FaultAt(18))
            ingest("libsvm", source, out, **ARGUMENTS)
        stops += 1
        assert stops < n_calls
    assert stops > 2
    assert files_of(out) == wanted


def stop_after(n, source, out):
    """Let an ingest die when it writes its n-th spill file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingest_parts, "write_spill", FaultAt(n).wrap(ingest_parts.write_spill))
        with pytest.raises(Killed):
            ingest("libsvm", source, out, **ARGUMENTS)


def test_finished_parts_are_not_read_again(tmp_path, small):
    source, out = put(tmp_path / "x.svm", lines(100)), tmp_path / "x.zarr"
    stop_after(4, source, out)
    assert 1 <= ingest("libsvm", source, out, **ARGUMENTS)["resumed_parts"] <= 4


@pytest.mark.parametrize("change", [{"seed": 1}, {"max_bad": 3}, {"panel_bytes": 3000}, {"keep_order": True}])
def test_other_arguments_start_afresh(tmp_path, small, change):
    source, out = put(tmp_path / "x.svm", lines(100)), tmp_path / "x.zarr"
    stop_after(4, source, out)
    assert ingest("libsvm", source, out, **{**ARGUMENTS, **change})["resumed_parts"] == 0


def test_a_changed_source_starts_afresh(tmp_path, small):
    source, out = put(tmp_path / "x.svm", lines(100)), tmp_path / "x.zarr"
    stop_after(4, source, out)
    put(source, lines(200, seed=1))
    assert ingest("libsvm", source, out, **ARGUMENTS)["resumed_parts"] == 0
    ingest("libsvm", source, tmp_path / "y.zarr", **ARGUMENTS)
    assert files_of(out) == files_of(tmp_path / "y.zarr")


def test_other_workers_go_on(tmp_path, undisturbed):
    source, wanted, _ = undisturbed
    out = tmp_path / "x.zarr"
    stop_after(4, source, out)
    assert ingest("libsvm", source, out, **{**ARGUMENTS, "workers": 3})["resumed_parts"] > 0
    assert files_of(out) == wanted


def test_a_full_disk_is_one_line_and_can_be_resumed(tmp_path, undisturbed):
    source, wanted, _ = undisturbed
    out = tmp_path / "x.zarr"

    def full():
        return OSError(errno.ENOSPC, "No space left on device")

    for n in (5, 20):
        with pytest.MonkeyPatch.context() as patch:
            inject(patch, FaultAt(n, full))
            with pytest.raises(DoesNotFit, match="no space left"):
                ingest("libsvm", source, out, **ARGUMENTS)
    ingest("libsvm", source, out, **ARGUMENTS)
    assert files_of(out) == wanted


KILLED_CHILD = """
import sys, time
from oocml.data import deal, ingest, ingest_run
ingest_run.MIN_PART_BYTES = ingest_run.MAX_PART_BYTES = 2000
deal.BUCKET_BYTES = 4000
ingest.ingest(
    "libsvm", sys.argv[1], sys.argv[2], workers=2, panel_bytes=2000, progress=lambda *_: time.sleep(0.02)
)
"""


@pytest.mark.parametrize("kind", ["parts", "buckets"])
def test_killed_with_sigkill_it_goes_on(tmp_path, monkeypatch, kind):
    source, out = put(tmp_path / "x.svm", lines(400)), tmp_path / "x.zarr"
    command = [sys.executable, "-c", KILLED_CHILD, str(source), str(out)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2]) as child:
        records = tmp_path / "x.zarr.partial" / kind
        while len(list(records.glob("*.pickle"))) < 5:
            assert child.poll() is None, "the ingest ended before it could be killed"
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)
    assert not out.exists()
    for name in ("ingest_run.MIN_PART_BYTES", "ingest_run.MAX_PART_BYTES"):
        monkeypatch.setattr(f"oocml.data.{name}", 2000)
    monkeypatch.setattr("oocml.data.deal.BUCKET_BYTES", 4000)
    result = ingest("libsvm", source, out, workers=2, panel_bytes=2000)
    assert result["resumed_parts"] >= 5
    ingest("libsvm", source, tmp_path / "y.zarr", workers=1, panel_bytes=2000)
    assert files_of(out) == files_of(tmp_path / "y.zarr")


PEAK = """
import resource, sys
from oocml.data.ingest import ingest
ingest("libsvm", sys.argv[1], sys.argv[2], workers=int(sys.argv[3]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.long
@pytest.mark.parametrize("packed", [False, True])
def test_memory_is_bounded_whatever_the_size_of_the_file(tmp_path, packed):
    """400 MB of text, 480 MB of rows, two workers: what `memory` is reckoned with."""
    piece = lines(4000, cols=10**6).encode()
    source = tmp_path / "x.svm"
    with open(source, "wb") as file:
        for _ in range(400_000_000 // len(piece)):
            file.write(piece)
    if packed:
        subprocess.run(["gzip", "-1", source], check=True)
        source = tmp_path / "x.svm.gz"
    command = [sys.executable, "-c", PEAK, str(source), str(tmp_path / "x.zarr"), "2"]
    run = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    peak = int(run.stdout) * (1 if sys.platform == "darwin" else 1024)
    assert peak < BASE_BYTES + 2 * WORKER_BYTES
