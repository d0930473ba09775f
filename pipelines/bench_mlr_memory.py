"""Out of core: a model, and then data, larger than the memory given, uncapped and under a memory cgroup.

Each training is a process of its own (``oocml train --json``), so that the limit holds it all.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oocml import api
from oocml.data.synth import synth

from . import datasets
from .bench_mlr_kernel import BareKernel
from .bench_options import Options, median, n_cpus, one_thread, say
from .process import train_alone
from .table import Finding, Section

EPOCHS = 2
L2 = 1e-5


@dataclass(frozen=True)
class Case:
    name: str
    rows: int
    cols: int
    classes: int
    nnz_per_row: int
    memory: str
    limit: str
    """Of the memory cgroup, as `memcap` takes it: about 1.3 times ``memory``, for page cache."""


CASES = {
    True: (
        Case("model of 8.6 GB", 50_000, 262_144, 8192, 60, "700MiB", "1G"),
        Case("model of 8.6 GB, more rows", 200_000, 262_144, 8192, 60, "700MiB", "1G"),
        Case("data of 2.1 GB", 2_600_000, 100_000, 64, 100, "700MiB", "1G"),
    ),
    False: (
        Case("model of 0.8 GB", 10_000, 100_000, 2048, 60, "600MiB", "800M"),
        Case("data of 0.2 GB", 250_000, 20_000, 32, 100, "500MiB", "700M"),
    ),
}


def run(options: Options) -> Section:
    """Two epochs of every case; share of the bare kernel's rate, planned and measured memory and I/O."""
    section = Section("out_of_core", f"{EPOCHS} epochs out of core on {n_cpus()} cores")
    for case in CASES[options.full]:
        path = options.data / f"synth-{case.rows}x{case.cols}x{case.classes}x{case.nnz_per_row}.zarr"
        shape = {
            "rows": case.rows,
            "cols": case.cols,
            "classes": case.classes,
            "nnz_per_row": case.nnz_per_row,
        }
        datasets.once(path, lambda p=path, s=shape: synth("lshtc1_large", p, **s))  # type: ignore[misc]
        caps = [None, case.limit] if options.memcap else [None]
        rows = {}
        for cap in caps:
            say(f"out_of_core: {case.name}, {'limit ' + cap if cap else 'no limit'}")
            rows[cap] = measured_row(case, path, options, cap)
            section.rows.append(rows[cap])
        section.findings += findings(case, rows)
    if not options.memcap:
        section.notes.append("no --memcap PROGRAM given: nothing ran under a memory limit")
    section.notes.append(
        "trained with exact_objective=false: rows are not scored once more in the last epoch"
    )
    return section


def measured_row(case: Case, path: Path, options: Options, cap: str | None) -> dict[str, Any]:
    summary = train(case, path, options, cap)
    layout = summary["config"]["layout"]
    nnz, cores = api.open_dataset(path).nnz, n_cpus()
    rate = nnz * case.classes * EPOCHS / summary["history"][-1]["seconds"]
    widths = [hi - lo for lo, hi in zip(layout["col_bounds"][:-1], layout["col_bounds"][1:], strict=True)]
    bare = bare_rate(case, max(widths), options.repeats)
    row = {
        "case": case.name,
        "limit": cap or "none",
        "seconds": summary["seconds"],
        "startup_s": summary["startup_seconds"],
        "G_updates_per_s": rate / 1e9,
        "classes_per_block": max(widths),
        "bare_kernel_G": bare / 1e9,
        "of_bare_x_cores": rate / bare / cores,
    }
    for what in ("memory", "read", "write"):
        planned = summary[f"planned_{what}_bytes"]
        found = summary["peak_memory_bytes" if what == "memory" else f"{what}_bytes"]
        row |= {
            f"{what}_GiB": found / 2**30,
            f"{what}_of_planned": found / planned if planned else float("nan"),
        }
    return row


def bare_rate(case: Case, width: int, repeats: int) -> float:
    """The kernel alone on rows and a class block of this case's shape, one thread."""
    with one_thread():
        kernel = BareKernel(case.cols, width, case.nnz_per_row, power_law=True)
        kernel.rate()
        return median([kernel.rate() for _ in range(repeats)])


def train(case: Case, path: Path, options: Options, cap: str | None) -> dict[str, Any]:
    """Run the command line; its JSON object."""
    return train_alone(
        ("mlr", path),
        options.scratch,
        {"epochs": EPOCHS, "memory": case.memory},
        {"l2": L2, "exact_objective": False},
        under=() if cap is None else (str(options.memcap), cap),
    )


def findings(case: Case, rows: dict[str | None, dict[str, Any]]) -> list[Finding]:
    found = []
    for cap, row in rows.items():
        where = f"{case.name}, {'limit ' + cap if cap else 'no limit'}"
        found.append(Finding(f"{where}: share of the bare kernel x cores", row["of_bare_x_cores"], 0.6))
        for what in ("memory", "read", "write"):
            share = row[f"{what}_of_planned"]
            found.append(Finding(f"{where}: {what}, measured / planned", share, 1.0, at_least=False))
    capped = next((row for cap, row in rows.items() if cap), None)
    if capped is not None:
        share = capped["G_updates_per_s"] / rows[None]["G_updates_per_s"]
        found.append(Finding(f"{case.name}: rate under the limit / without", share, 0.8))
    return found
