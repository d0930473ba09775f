"""Reading libsvm text: our tokenizer and a whole ingest beside scikit-learn's loader, on one file in one run.

Tokenizer and loader run on one thread with the file in the page cache: their seconds are of processor time. Those of a
whole ingest are of the clock.
"""

from __future__ import annotations

import functools
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from oocml import api
from oocml.data.libsvm import LibsvmReader
from oocml.data.planted_classes import PlantedClasses
from oocml.data.readers import BadLines
from oocml.data.specs import load_spec
from oocml.data.synth import make_shape

from .bench_mlr_kernel import cpu_seconds
from .bench_options import Options, interleaved, median, n_cpus, one_thread, say
from .table import Finding, Section

ROWS = {False: 20_000, True: 200_000}
BATCH_ROWS = 5000
PART_BYTES = 2**40
GOAL = 100.0


def run(options: Options) -> Section:
    """MB/s of a file of real-valued features and of one of word counts."""
    section = Section("ingest", "libsvm text, MB/s (median)")
    for kind, text in {"real values": "%.6g", "counts": "%d"}.items():
        path = options.data / f"{kind.replace(' ', '-')}-{ROWS[options.full]}.svm"
        if not path.exists():
            say(f"ingest: writing {path}")
            write_svmlight(path, ROWS[options.full], text)
        size = path.stat().st_size / 1e6
        readers = contenders(path, options.out / "ingested.zarr")
        readers["tokenizer", 1]()  # compiles
        taken = {key: median(values) for key, values in interleaved(readers, options.repeats).items()}
        for (method, cores), spent in taken.items():
            row = {"file": kind, "MB": size, "method": method, "cores": cores, "seconds": spent}
            section.rows.append(row | {"MB_per_s": size / spent})
        ours, theirs = taken["tokenizer", 1], taken["load_svmlight_file", 1]
        section.findings.append(Finding(f"MB/s of the tokenizer per core, {kind}", size / ours, GOAL))
        section.findings.append(Finding(f"tokenizer / scikit-learn's loader, {kind}", theirs / ours))
    shutil.rmtree(options.out / "ingested.zarr", ignore_errors=True)
    return section


def contenders(path: Path, out: Path) -> dict[tuple[str, int], Callable[[], float]]:
    """By (name, cores): functions that read the file once and return the seconds it took."""
    from sklearn.datasets import load_svmlight_file

    def tokenize() -> float:
        with one_thread():
            return cpu_seconds(lambda: sum(len(batch.X.data) for batch in batches(path)))

    def load() -> float:
        with one_thread():
            return cpu_seconds(lambda: load_svmlight_file(str(path)))

    def ingest(workers: int) -> float:
        return seconds(lambda: api.ingest("libsvm", path, str(out), overwrite=True, workers=workers))

    whole = {("whole ingest", n): functools.partial(ingest, n) for n in dict.fromkeys((1, n_cpus()))}
    return {("tokenizer", 1): tokenize, ("load_svmlight_file", 1): load, **whole}


def seconds(work: Any) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def batches(path: Path) -> Any:
    """Rows of a file as ingest's readers give them, in one thread."""
    reader, bad = LibsvmReader(), BadLines(0)
    for part in reader.parts([str(path)], PART_BYTES):
        yield from reader.read(part, bad)


def write_svmlight(path: Path, n_rows: int, text: str) -> None:
    """A stand-in's rows as text; appears when whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sizes = {"rows": n_rows, "cols": 100_000, "classes": 100, "nnz_per_row": 100.0}
    planter = PlantedClasses(make_shape(load_spec("lshtc1_small"), "train", sizes), 0, "train")
    partial = path.with_suffix(".partial")
    with partial.open("w") as file:
        for lo in range(0, n_rows, BATCH_ROWS):
            X, y, *_ = planter(lo, min(n_rows, lo + BATCH_ROWS))
            values = X.data if "g" in text else np.ceil(X.data * 20)
            entry = f"%d:{text}"
            for i, label in enumerate(np.asarray(y).astype(int).tolist()):
                span = slice(X.indptr[i], X.indptr[i + 1])
                pairs = zip((X.indices[span] + 1).tolist(), values[span].tolist(), strict=True)
                file.write(f"{label} {' '.join(entry % pair for pair in pairs)}\n")
    os.replace(partial, path)
