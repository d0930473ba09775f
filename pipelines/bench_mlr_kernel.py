"""The bare DS-MLR kernel on one thread, in memory, beside what the machine could do at best.

An update of one entry of X for one class is 5 floating-point operations (2 to score, 3 to update) and at least 8
bytes of W (4 read, 4 written) where W doesn't stay in a cache. Everything here runs on one thread and doesn't wait, so
rates are per second of processor time: what else runs on the machine then matters little.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from oocml.data.planted_classes import PlantedClasses
from oocml.data.specs import load_spec
from oocml.data.synth import make_shape
from oocml.kernels.jit import jit
from oocml.models.mlr import MLR
from oocml.models.protocol import Pass, Problem, Visit
from oocml.store.buffers import aligned_empty
from oocml.types import Bounds, Csr, Panel

from .bench_options import Options, interleaved, median, one_thread
from .table import Finding, Section

TILES = (16, 32, 64, 128, 256, 512)
CACHED_W_BYTES = 2**19
LARGE_FEATURES = 262_144
NNZ_PER_ROW = 60
UPDATES = 200_000_000
"""Of one timed call."""
ETA = 1.0
FLOPS_PER_UPDATE, BYTES_PER_UPDATE = 5, 8
STREAM_BYTES = 2**28
GOAL_CLASSES, GOAL_RATE = 256, 1.5


class Roof(NamedTuple):
    """What one core of this machine can do at best."""

    stream: float
    """Bytes/s, reading and writing back one long array."""
    flops: float
    """Single-precision operations/s of a matrix product."""

    def updates(self) -> float:
        """Updates/s of a kernel whose W lies in memory."""
        return min(self.flops / FLOPS_PER_UPDATE, self.stream / BYTES_PER_UPDATE)


@jit
def scale(a: Any) -> None:
    # k=element
    for k in range(len(a)):
        a[k] *= np.float32(1.0000001)


def measure_roof(repeats: int, n_bytes: int = STREAM_BYTES) -> Roof:
    """Time the machine itself; the best of ``repeats``."""
    a = aligned_empty((n_bytes // 4,), "float32")
    a[:] = 1
    B = np.random.default_rng(0).random((1024, 1024), np.float32)

    def bandwidth() -> float:
        return 2 * a.nbytes / cpu_seconds(lambda: scale(a))

    def product() -> float:
        return 2 * 1024**3 / cpu_seconds(lambda: np.dot(B, B))

    scale(a[:1])
    taken = interleaved({"stream": bandwidth, "flops": product}, repeats)
    return Roof(**{name: max(values) for name, values in taken.items()})


def cpu_seconds(work: Callable[[], Any]) -> float:
    """Processor time of this thread."""
    began = time.thread_time()
    work()
    return time.thread_time() - began


class BareKernel:
    """The model's visit of rows by one class block, all in memory, as a task would call it."""

    def __init__(
        self,
        n_features: int,
        n_classes: int,
        nnz_per_row: int = NNZ_PER_ROW,
        *,
        power_law: bool = False,
        updates: int = UPDATES,
    ) -> None:
        rng, model = np.random.default_rng(0), MLR()
        n_rows = max(64, updates // (nnz_per_row * n_classes))
        X = random_rows(rng, n_rows, n_features, min(nnz_per_row, n_features), power_law)
        problem = Problem(
            n_rows=n_rows,
            n_features=n_features,
            nnz=len(X.data),
            feature_nnz=np.bincount(X.indices, minlength=n_features),
            feature_sumsq=np.bincount(X.indices, X.data.astype(np.float64) ** 2, minlength=n_features),
            labels=np.arange(n_classes, dtype=np.float64),
            label_kind="number",
            settings=model.defaults(),
            seed=0,
        )
        panel = Panel(X, rng.integers(n_classes, size=n_rows).astype(np.float64), np.arange(n_rows))
        pass_ = model.visit_pass(problem, ETA)
        self.kernel = model.kernels[pass_.kernel].visit
        self.visit = Visit(
            p=0,
            q=0,
            sweep=0,
            last=True,
            data=model.prepare(panel, problem, Bounds(0, problem.n_features)),
            n_rows=n_rows,
            cols=Bounds(0, n_classes),
            **blocks_of(model, problem, pass_),
            scratch={},
            params=pass_.params,
            constants=model.constants(problem),
            seed=0,
        )
        self.updates = len(X.data) * n_classes

    def rate(self) -> float:
        """Updates per second of processor time, in one visit."""
        return self.updates / cpu_seconds(lambda: self.kernel(self.visit))


def blocks_of(model: MLR, problem: Problem, pass_: Pass) -> dict[str, dict[str, Any]]:
    """The arrays a pass uses, by kind, at their initial values."""
    sizes = {"features": problem.n_features, "rows": problem.n_rows, "cols": model.n_cols(problem)}
    blocks: dict[str, dict[str, Any]] = {"row": {}, "cell": {}, "col": {}, "shared": {}}
    for spec in model.state(problem):
        if spec.name in (*pass_.reads, *pass_.writes):
            array = aligned_empty(tuple(sizes[d] if isinstance(d, str) else d for d in spec.dims), spec.dtype)
            bounds = Bounds(0, sizes["rows" if spec.kind in ("row", "cell") else "cols"])
            array[...] = spec.init(problem, bounds) if callable(spec.init) else spec.init
            blocks[spec.kind][spec.name] = array
    return blocks


def random_rows(rng: np.random.Generator, n_rows: int, n_features: int, per_row: int, power_law: bool) -> Csr:
    """Rows whose columns follow the power law of a stand-in, or are uniform."""
    if power_law:
        sizes = {"rows": n_rows, "cols": n_features, "classes": 100, "nnz_per_row": float(per_row)}
        return PlantedClasses(make_shape(load_spec("lshtc1_large"), "train", sizes), 0, "train")(0, n_rows).X
    columns = rng.integers(
        n_features, size=(n_rows, per_row)
    )  # a column may occur twice, which does no harm here
    columns.sort(axis=1)
    data = np.full(n_rows * per_row, per_row**-0.5, np.float32)
    return Csr(np.arange(n_rows + 1) * per_row, columns.astype(np.int32).ravel(), data)


def run(options: Options) -> Section:
    """Rate by width of the class tile, W in cache and W of 262,144 features, beside the roof."""
    section = Section("kernel", "the bare visit, one thread, in memory (median)")
    with one_thread():
        roof = measure_roof(max(5, options.repeats))
        for n_classes in TILES:
            cases = {
                "cached W": BareKernel(CACHED_W_BYTES // (4 * n_classes), n_classes),
                f"D={LARGE_FEATURES:,}, power-law columns": BareKernel(
                    LARGE_FEATURES, n_classes, power_law=True
                ),
                f"D={LARGE_FEATURES:,}, uniform columns": BareKernel(LARGE_FEATURES, n_classes),
            }
            for kernel in cases.values():
                kernel.rate()  # compiles, and touches every page
            taken = interleaved({name: kernel.rate for name, kernel in cases.items()}, options.repeats)
            for name, rates in taken.items():
                section.rows.append(rate_row(name, n_classes, rates, roof))
                if n_classes == GOAL_CLASSES:
                    what = f"G updates/s at {n_classes} classes, {name}"
                    section.findings.append(Finding(what, median(rates) / 1e9, GOAL_RATE))
    section.notes.append(
        f"roof of one core: {roof.stream / 1e9:.1f} GB/s (an array read and written back), "
        f"{roof.flops / 1e9:.0f} GFLOP/s (sgemm); a W in memory allows {roof.updates() / 1e9:.2f} G updates/s"
    )
    section.notes.append("GB/s counts each entry of W as read and written once per update, wherever it lies")
    return section


def rate_row(name: str, n_classes: int, rates: list[float], roof: Roof) -> dict[str, Any]:
    rate = median(rates)
    return {
        "W": name,
        "classes": n_classes,
        "G_updates_per_s": rate / 1e9,
        "worst": min(rates) / 1e9,
        "best": max(rates) / 1e9,
        "GFLOP_per_s": FLOPS_PER_UPDATE * rate / 1e9,
        "of_sgemm": FLOPS_PER_UPDATE * rate / roof.flops,
        "GB_per_s": BYTES_PER_UPDATE * rate / 1e9,
        "of_bandwidth": BYTES_PER_UPDATE * rate / roof.stream,
    }
