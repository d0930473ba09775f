"""The model that docs/own-model.md walks through, used as a user would."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import oocml
from oocml.cli import run as oocml_command
from oocml.data.dataset import Dataset
from oocml.models.registry import load_model

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "robust.py"
N_LABELS, N_FEATURES = 5, 8
CENTRES = 1.5 * np.eye(N_LABELS, N_FEATURES)


def write_rows(path: Path, n_rows: int, n_outliers: int, seed: int) -> Path:
    """Rows around their label's centre; outliers lie far out on the side of another label."""
    rng = np.random.default_rng(seed)
    y = rng.integers(N_LABELS, size=n_rows)
    X = CENTRES[y] + 0.5 * rng.standard_normal((n_rows, N_FEATURES))
    wrong = slice(0, n_outliers)
    X[wrong] = 4 * CENTRES[(y[wrong] + 1) % N_LABELS] + rng.standard_normal((n_outliers, N_FEATURES))
    lines = [
        f"{label} " + " ".join(f"{j + 1}:{value:.5g}" for j, value in enumerate(row))
        for label, row in zip(y, X, strict=True)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> tuple[Dataset, Dataset]:
    """A training set in at least three panels with outliers, and a test set without."""
    folder = tmp_path_factory.mktemp("robust")
    train, test = folder / "train.zarr", folder / "test.zarr"
    rows = write_rows(folder / "train.svm", 600, 60, seed=1)
    oocml.ingest("libsvm", rows, str(train), panel_bytes=12_000, workers=1)
    clean = write_rows(folder / "test.svm", 300, 0, seed=2)
    oocml.ingest("libsvm", clean, str(test), like=str(train), workers=1)
    opened = oocml.open_dataset(train)
    assert opened.n_panels >= 3
    return opened, oocml.open_dataset(test)


def train(
    dataset: Dataset, out: Path, *, model: Path = EXAMPLE, col_blocks: int = 4, **settings
) -> oocml.Run:
    return oocml.train(
        f"{model}:Robust",
        dataset,
        out,
        epochs=20,
        schedule="serial",
        row_blocks=3,
        col_blocks=col_blocks,
        settings=settings,
    )


def test_slopes_are_the_derivatives_of_the_losses():
    load_model(f"{EXAMPLE}:Robust")
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("example", EXAMPLE)
    example = module_from_spec(spec)
    spec.loader.exec_module(example)
    margin, h = np.linspace(-30, 30, 61), 1e-5
    for loss in example.LOSSES:
        up, down = (example.loss_and_slope(margin + d, loss)[0] for d in (h, -h))
        np.testing.assert_allclose(example.loss_and_slope(margin, loss)[1], (up - down) / (2 * h), atol=1e-8)


def test_rows_with_wrong_labels_cost_the_robust_loss_less_accuracy(data, tmp_path):
    dataset, clean = data
    accuracy = {}
    for loss in ("robust", "logistic"):
        accuracy[loss] = train(dataset, tmp_path / f"{loss}.zarr", loss=loss).evaluate(clean)["accuracy"]
    assert accuracy["robust"] > 0.9
    assert accuracy["robust"] > accuracy["logistic"] + 0.05


def test_the_reported_objective_is_that_of_the_stored_model(data, tmp_path):
    run = train(data[0], tmp_path / "run.zarr")
    assert run.summary()["objective"] == pytest.approx(run.evaluate(data[0])["objective"], rel=1e-6)
    running = [epoch["objective"] for epoch in run.history]
    assert running[-1] < running[0]


def test_how_labels_are_cut_does_not_matter(data, tmp_path):
    models = [train(data[0], tmp_path / f"{n}.zarr", col_blocks=n).arrays()["W"].compute() for n in (1, 4, 5)]
    for other in models[1:]:
        np.testing.assert_allclose(other, models[0], rtol=1e-4, atol=1e-6)


def test_a_run_needs_its_own_copy_of_the_model_only(data, tmp_path):
    model = shutil.copy(EXAMPLE, tmp_path / "mine.py")
    train(data[0], tmp_path / "run.zarr", model=Path(model))
    Path(model).unlink()
    out = tmp_path / "best.txt"
    assert oocml_command(["predict", str(tmp_path / "run.zarr"), data[1].path, str(out), "--top", "2"]) == 0
    lines = out.read_text().splitlines()
    assert len(lines) == data[1].n_rows
    scores = [[float(pair.partition(":")[2]) for pair in line.split()] for line in lines]
    assert all(0 <= second <= first <= 1 for first, second in scores)
