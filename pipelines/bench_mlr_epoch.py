"""An epoch end to end, from the dataset on disk: DS-MLR beside scikit-learn's SGDClassifier(loss="log_loss").

scikit-learn trains one class against the rest at a time, so its epoch on few of the classes is timed and scaled up by
their number; with ``--full`` it trains them all.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from oocml import api
from oocml.data.synth import synth

from . import datasets, softmax
from .bench_options import Options, median, n_cpus, say
from .table import Finding, Section
from .training import discard, measure

COLS, CLASSES, NNZ_PER_ROW = 100_000, 1000, 100
ROWS = {False: 20_000, True: 100_000}
SOME_CLASSES = 20
L2 = 1e-5
EPOCHS = 4
GOAL = 10.0


def run(options: Options) -> Section:
    """Seconds of an epoch, ours on one core and on all, theirs likewise."""
    n_rows = ROWS[options.full]
    path = options.data / f"synth-{n_rows}x{COLS}x{CLASSES}.zarr"
    shape = {"rows": n_rows, "cols": COLS, "classes": CLASSES, "nnz_per_row": NNZ_PER_ROW}
    datasets.once(path, lambda: synth("lshtc1_small", path, **shape))
    dataset = api.open_dataset(path)
    title = f"an epoch on {n_rows:,} x {COLS:,}, {CLASSES:,} classes, {dataset.nnz:,} entries"
    section, cores = Section("epoch", title), n_cpus()
    ours, theirs = {}, {}
    measure(path, options.scratch, {"l2": L2}, epochs=1, schedule="serial")  # compiles
    for workers in dict.fromkeys((1, cores)):
        say(f"epoch: ours, {workers} workers")
        ours[workers] = our_epochs(options, path, workers)
        section.rows.append(
            {
                "method": "ds-mlr",
                "cores": workers,
                "epoch_s": ours[workers]["steady"],
                "G_updates_per_s": dataset.nnz * CLASSES / ours[workers]["steady"] / 1e9,
                "first_epoch_s": ours[workers]["first"],
                "with_exact_objective_s": ours[workers]["last"],
            }
        )
    for jobs in dict.fromkeys((1, cores)):
        say(f"epoch: SGDClassifier, {jobs} jobs")
        theirs[jobs], n_fitted = their_epoch(path, jobs, CLASSES if options.full else SOME_CLASSES)
        rate = dataset.nnz * CLASSES / theirs[jobs] / 1e9
        row = {"method": "SGDClassifier", "cores": jobs, "epoch_s": theirs[jobs], "G_updates_per_s": rate}
        section.rows.append(row | {"classes_fitted": n_fitted})
    for n in ours:
        what = f"epochs of ours in one of SGDClassifier's, {n} core{'s' * (n > 1)} each"
        section.findings.append(Finding(what, theirs[n] / ours[n]["steady"], GOAL))
    if not options.full:
        section.notes.append(
            f"SGDClassifier fitted {SOME_CLASSES} classes and one for all others; its epoch is scaled to {CLASSES} "
            "(--full fits them all)"
        )
    section.notes.append(
        "ours reads the data and reads and writes the model on disk; SGDClassifier has all in memory"
    )
    return section


def our_epochs(options: Options, path: Any, workers: int) -> dict[str, float]:
    """Seconds of the first epoch, of a later one, and of the last, which ends with the exact objective."""
    done = measure(path, options.scratch, {"l2": L2}, epochs=EPOCHS, schedule="sync", workers=workers)
    ends = [record["seconds"] for record in done.run.history]
    discard(options.scratch)
    *later, last = np.diff(ends).tolist()
    return {"first": ends[0], "steady": median(later), "last": last}


def their_epoch(path: Any, jobs: int, n_classes: int) -> tuple[float, int]:
    """Seconds of an epoch of all classes, and how many were fitted."""
    problem = softmax.load(path)
    if n_classes < problem.n_classes:
        problem = problem._replace(y=np.minimum(problem.y, n_classes), n_classes=n_classes + 1)
    began = time.perf_counter()
    softmax.fit("sgd", problem, L2, max_iter=1, jobs=jobs)
    seconds = time.perf_counter() - began
    return seconds * CLASSES / problem.n_classes, problem.n_classes
