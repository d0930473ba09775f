"""Benchmarks of DS-MLR against the machine, its own plan and scikit-learn, side by side in one run.

    python -m pipelines.bench_mlr                             everything, small: a few minutes
    python -m pipelines.bench_mlr --only kernel,time_to
    python -m pipelines.bench_mlr --full --memcap PROGRAM     the sizes of the goals; needs 30 GB of disk

Every section prints a table and writes a CSV file; figures with a goal go to a second one.
"""

from __future__ import annotations

from collections.abc import Callable

from . import (
    bench_mlr_epoch,
    bench_mlr_ingest,
    bench_mlr_kernel,
    bench_mlr_memory,
    bench_mlr_steps,
    bench_mlr_time_to,
)
from .bench_options import Options
from .sections import benchmark
from .table import Section

SECTIONS: dict[str, Callable[[Options], Section]] = {
    "kernel": bench_mlr_kernel.run,
    "epoch": bench_mlr_epoch.run,
    "out_of_core": bench_mlr_memory.run,
    "time_to": bench_mlr_time_to.run,
    "steps": bench_mlr_steps.run,
    "ingest": bench_mlr_ingest.run,
}


main = benchmark(
    "DS-MLR", SECTIONS, folder="oocml-bench-mlr", full="The sizes of the goals.", files="NAME/train.svm"
)

if __name__ == "__main__":
    main()
