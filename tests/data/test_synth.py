"""Stand-ins have the shape asked for, the same bytes for the same seed, and classes that can be learnt."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
from pathlib import Path

import numpy as np
import psutil
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from oocml.data import planted_classes
from oocml.data import synth as module
from oocml.data.dataset import Dataset
from oocml.data.specs import list_specs, load_spec
from oocml.data.synth import make_shape, synth
from oocml.errors import DoesNotFit, InputError, UsageError
from oocml.kernels import planted_rows

SMALL = {"rows": 900, "cols": 5000, "classes": 30, "nnz_per_row": 25, "panel_bytes": 20_000}


def digest(path: Path) -> str:
    """One sum over the names and contents of all files."""
    total = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        total.update(str(file.relative_to(path)).encode() + file.read_bytes())
    return total.hexdigest()


def matrix(path: Path) -> tuple[sp.csr_matrix, np.ndarray]:
    dataset = Dataset.open(path)
    panels = [dataset.read_panel(p) for p in range(dataset.n_panels)]
    rows = [
        sp.csr_matrix((p.X.data, p.X.indices, p.X.indptr), shape=(len(p.row_ids), dataset.n_cols))
        for p in panels
    ]
    return sp.vstack(rows, format="csr"), np.concatenate([p.y for p in panels])


def make(tmp_path: Path, name: str = "s.zarr", **arguments) -> tuple[sp.csr_matrix, np.ndarray]:
    synth("news20", tmp_path / name, **(SMALL | arguments))
    return matrix(tmp_path / name)


def test_same_seed_gives_the_same_bytes_for_any_workers(tmp_path: Path):
    for name, workers in (("a", 1), ("b", 3), ("c", 1)):
        synth("news20", tmp_path / name, workers=workers, **SMALL)
    assert digest(tmp_path / "a") == digest(tmp_path / "b") == digest(tmp_path / "c")
    synth("news20", tmp_path / "d", seed=1, **SMALL)
    assert digest(tmp_path / "d") != digest(tmp_path / "a")


def test_rows_do_not_depend_on_the_panels(tmp_path: Path):
    X, y = make(tmp_path, "a")
    other, labels = make(tmp_path, "b", panel_bytes=1 << 20)
    assert Dataset.open(tmp_path / "a").n_panels >= 8
    assert Dataset.open(tmp_path / "b").n_panels == 1
    assert (other != X).nnz == 0
    np.testing.assert_array_equal(y, labels)


def test_answer_has_the_keys_of_ingest_and_tells_the_truth(tmp_path: Path):
    answer = synth("news20", tmp_path / "s.zarr", **SMALL)
    info = Dataset.open(tmp_path / "s.zarr").info(deep=True)
    assert info["whole"]
    for key in (
        "kind",
        "n_rows",
        "n_cols",
        "nnz",
        "n_classes",
        "n_row_blocks",
        "bytes",
        "bad_lines",
        "whole",
    ):
        assert answer[key] == info[key], key
    assert info["source"][0]["synth"]["spec"] == "news20"


def test_rows_are_sorted_distinct_positive_and_of_unit_length(tmp_path: Path):
    X, _ = make(tmp_path)
    assert X.has_canonical_format
    assert X.data.min() > 0
    np.testing.assert_allclose(np.sqrt(X.multiply(X).sum(axis=1)), 1, rtol=1e-5)
    assert X.getnnz(axis=1).min() >= 1


@pytest.mark.parametrize("nnz_per_row", [3, 25, 300, 1200])
def test_entries_per_row_are_as_asked(tmp_path: Path, nnz_per_row: int):
    X, _ = make(tmp_path, nnz_per_row=nnz_per_row, panel_bytes=1 << 20)
    assert X.nnz / X.shape[0] == pytest.approx(nnz_per_row, rel=0.08)


def test_popularity_of_features_follows_its_power_law():
    """Column counts of the background, by rank, against the density they are drawn from."""
    recipe = planted_classes.make_recipe(
        (10_000, 10_000, 10), 20, seed=3, split="train", counts=True, normalise=False
    )
    X, _ = planted_classes.make_rows(recipe, 0, 10_000)
    tokens = np.zeros(10_000)
    np.add.at(tokens, X.indices, X.data)
    ranks = np.arange(10_000)
    columns = (ranks * int(recipe.multiplier) + int(recipe.offset)) % 10_000
    by_rank = tokens[columns]
    density = (ranks + planted_classes.OFFSET + 0.5) ** -planted_classes.EXPONENT
    expected = density / density.sum() * (1 - planted_classes.SIGNAL) * tokens.sum()
    for lo, hi in ((0, 1), (1, 10), (10, 100), (100, 1000)):
        # class tokens are spread over all columns: they add a little, and more further down
        assert by_rank[lo:hi].sum() == pytest.approx(expected[lo:hi].sum(), rel=0.12), (lo, hi)
    top = np.sort(tokens)[::-1]
    assert top[:100].sum() > 0.4 * tokens.sum()  # a hundredth of the columns


def test_columns_are_not_in_order_of_popularity(tmp_path: Path):
    X, _ = make(tmp_path)
    counts = np.bincount(X.indices, minlength=X.shape[1])
    assert abs(np.corrcoef(np.arange(len(counts)), counts)[0, 1]) < 0.1


@pytest.mark.parametrize(("rows", "classes"), [(1, 1), (30, 30), (31, 30), (100, 30), (4000, 1000), (900, 2)])
def test_every_class_occurs_if_rows_allow(tmp_path: Path, rows: int, classes: int):
    _, y = make(tmp_path, rows=rows, classes=classes, panel_bytes=1 << 20)
    assert set(y) == set(range(classes))


def test_classes_beyond_the_rows_stay_in_the_table(tmp_path: Path):
    make(tmp_path, rows=10, classes=30)
    assert list(Dataset.open(tmp_path / "s.zarr").labels) == list(range(30))


def test_class_sizes_follow_a_power_law_and_are_not_sorted(tmp_path: Path):
    _, y = make(tmp_path, rows=6000, classes=50, panel_bytes=1 << 18)
    sizes = np.bincount(y.astype(int), minlength=50)
    slope = np.polyfit(np.log(np.arange(50) + planted_classes.OFFSET), np.log(np.sort(sizes)[::-1]), 1)[0]
    assert slope == pytest.approx(-planted_classes.CLASS_EXPONENT, abs=0.12)
    assert np.count_nonzero(np.diff(y)) > 0.9 * len(y)  # rows are not sorted by class
    first, second = (np.bincount(half.astype(int), minlength=50) for half in np.split(y, 2))
    assert np.abs(first - second).max() < 6 * np.sqrt(sizes.max() / 2)  # both halves alike


def test_planted_classes_can_be_learnt_and_hold_for_the_test_split(tmp_path: Path):
    naive_bayes = pytest.importorskip("sklearn.naive_bayes")
    shape = {"rows": 2000, "cols": 4000, "classes": 10, "nnz_per_row": 40, "panel_bytes": 1 << 18}
    X, y = make(tmp_path, "train", **shape)
    Xt, yt = make(tmp_path, "test", **(shape | {"rows": 600, "split": "test"}))
    model = naive_bayes.MultinomialNB(alpha=0.1).fit(X, y)
    chance = np.bincount(yt.astype(int)).max() / len(yt)
    accuracy = model.score(Xt, yt)
    assert chance < 0.3
    assert 3 * chance < accuracy < 0.99, (chance, accuracy)  # the noise in the labels leaves some wrong
    assert abs(Xt[:50] @ X[:50].T).max() < 0.999  # other rows than those of the training split


def test_many_classes_with_few_rows_each_can_be_learnt():
    """Nearest centroid, weighted by inverse document frequency: one pass, whatever the number of classes."""
    rows, cols, classes = 6000, 40_000, 1000
    parts = {}
    for split, n in (("train", rows), ("test", 500)):
        recipe = planted_classes.make_recipe((n, cols, classes), 60, seed=0, split=split)
        X, y = planted_classes.make_rows(recipe, 0, n)
        parts[split] = sp.csr_matrix((X.data, X.indices, X.indptr), shape=(n, cols)), y.astype(int)
    (X, y), (Xt, yt) = parts["train"], parts["test"]
    weight = sp.diags(np.log(rows / (1 + np.bincount(X.indices, minlength=cols))))
    centroids = sp.csr_matrix((np.ones(rows), (y, np.arange(rows))), shape=(classes, rows)) @ X @ weight
    centroids = sp.diags(1 / np.sqrt(centroids.multiply(centroids).sum(axis=1)).A1.clip(1e-9)) @ centroids
    accuracy = ((Xt @ weight @ centroids.T).toarray().argmax(axis=1) == yt).mean()
    assert accuracy > 10 * np.bincount(y).max() / rows


@pytest.mark.parametrize("split", ["train", "test"])
def test_share_of_labels_drawn_at_random_is_as_stated(split: str):
    recipe = planted_classes.make_recipe((4000, 5000, 1000), 5, seed=0, split=split)
    y, classes = np.empty(4000), np.empty(4000, np.int64)
    planted_rows.draw_classes(recipe, 0, y, classes)
    share = planted_rows.LABEL_NOISE * (0.75 if split == "train" else 1)  # a quarter are first of their class
    assert np.mean(y != classes) == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize("name", ["clef", "digits"])
def test_dense_specs_can_be_learnt(name: str):
    neighbors = pytest.importorskip("sklearn.neighbors")
    spec = load_spec(name)
    shape = make_shape(spec, "train", {"rows": 1500, "cols": None, "classes": 10, "nnz_per_row": None})
    parts = {}
    for split in ("train", "test"):
        X, y = module.PlantedClasses(shape, 0, split)(0, 1500)[:2]
        parts[split] = sp.csr_matrix((X.data, X.indices, X.indptr), shape=(1500, spec.cols)).toarray(), y
        assert len(X.data) / 1500 == pytest.approx(spec.nnz_per_row, rel=0.02)
    model = neighbors.NearestCentroid().fit(*parts["train"])
    assert model.score(*parts["test"]) > 0.6


def test_full_rows_are_stored_as_a_plain_array(tmp_path: Path):
    X, _ = make(tmp_path, rows=100, cols=40, nnz_per_row=40, panel_bytes=4000)
    dataset = Dataset.open(tmp_path / "s.zarr")
    assert not dataset.sparse
    assert dataset.n_panels > 3
    assert dataset.info(deep=True)["whole"]
    assert X.nnz == 4000


def test_memory_does_not_grow_with_the_data(tmp_path: Path):
    process, peak = psutil.Process(), []
    arguments = {**SMALL, "rows": 500, "cols": 20_000, "nnz_per_row": 100, "panel_bytes": 1 << 20}
    synth("news20", tmp_path / "warm", **arguments)
    before = process.memory_info().rss
    arguments["rows"] = 80_000
    answer = synth(
        "news20",
        tmp_path / "s.zarr",
        workers=2,
        progress=lambda *_: peak.append(process.memory_info().rss - before),
        **arguments,
    )
    assert answer["bytes"] > 60 << 20
    assert max(peak) < 24 << 20


def test_progress_counts_rows(tmp_path: Path):
    seen: list[tuple[str, int, int]] = []
    make(tmp_path, workers=2, progress=lambda *counts: seen.append(counts))
    assert seen[-1] == ("write", 900, 900)
    assert [done for _, done, _ in seen] == sorted({done for _, done, _ in seen})


@pytest.mark.parametrize(
    ("workers", "number", "expected", "says"),
    [
        (1, errno.ENOSPC, DoesNotFit, "no space left on the disk of"),
        (2, errno.EACCES, InputError, "cannot be written: trouble"),
    ],
)
def test_failure_leaves_nothing(
    tmp_path: Path, workers: int, number: int, expected: type, says: str, monkeypatch: pytest.MonkeyPatch
):
    real = planted_classes.make_rows

    def fail_later(recipe, lo, hi):
        if lo > 300 and hi < 5000:
            raise OSError(number, "trouble")
        return real(recipe, lo, hi)

    synth("news20", tmp_path / "warm", **SMALL)
    before = set(tmp_path.iterdir())
    shape = make_shape(
        load_spec("news20"), "train", {k: SMALL[k] for k in ("rows", "cols", "classes", "nnz_per_row")}
    )
    planter = module.PlantedClasses(shape, 0, "train")
    monkeypatch.setitem(module.PLANTERS, "classification", lambda *_: planter)
    monkeypatch.setattr(planted_classes, "make_rows", fail_later)
    with pytest.raises(expected, match=says):
        synth("news20", tmp_path / "s.zarr", workers=workers, **SMALL)
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"rows": 0}, "--rows is 0; it must be at least 1"),
        ({"cols": -1}, "--cols is -1"),
        ({"classes": 0}, "--classes is 0"),
        ({"nnz_per_row": 0}, "--nnz-per-row is 0"),
        ({"nnz_per_row": float("nan")}, "--nnz-per-row is nan"),
        ({"nnz_per_row": 5001}, "but there are 5000 columns; give at most 5000"),
        ({"rows": 2**31}, "--rows is 2147483648; at most"),
        ({"split": "valid"}, "split is 'valid'; it must be train or test"),
        ({"workers": 0}, "workers is 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_meaningless_argument_is_refused_before_any_work(tmp_path: Path, arguments: dict, says: str):
    with pytest.raises(UsageError, match=says) as caught:
        synth("news20", tmp_path / "s.zarr", **(SMALL | arguments))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_too_small_disk_is_refused_before_any_work(tmp_path: Path):
    with pytest.raises(
        DoesNotFit, match=r"needs about \d+.\d GB but .* free; give --rows \d+ or another disk"
    ):
        synth("reddit_full", tmp_path / "s.zarr", rows=2**31 - 1, nnz_per_row=1e6)
    assert list(tmp_path.iterdir()) == []


def test_existing_dataset_stays_unless_told(tmp_path: Path):
    make(tmp_path)
    with pytest.raises(UsageError, match="exists"):
        synth("news20", tmp_path / "s.zarr", **SMALL)
    make(tmp_path, seed=5, overwrite=True)


@pytest.mark.parametrize("name", ["gowalla", "td2004"])
def test_task_with_nothing_to_plant_yet_is_refused(tmp_path: Path, name: str):
    with pytest.raises(UsageError, match=f"no stand-in for {load_spec(name).task} yet"):
        synth(name, tmp_path / "s.zarr")


def test_unknown_number_is_asked_for():
    spec = dataclasses.replace(load_spec("news20"), classes=None)
    with pytest.raises(UsageError, match="news20 states no classes for its train split; give --classes"):
        make_shape(spec, "train", dict.fromkeys(("rows", "cols", "classes", "nnz_per_row")))


@pytest.mark.parametrize("name", [n for n in list_specs() if load_spec(n).task == "classification"])
def test_every_classification_spec_has_a_stand_in(name: str, tmp_path: Path):
    answer = synth(name, tmp_path / "s.zarr", rows=40)
    assert (answer["n_cols"], answer["n_classes"]) == (load_spec(name).cols, load_spec(name).classes)


@given(
    n=st.integers(1, 5000), key=st.integers(0, 2**63), rows=st.integers(1, 200), classes=st.integers(1, 300)
)
def test_shuffle_is_a_permutation_and_shares_cover_every_class(n: int, key: int, rows: int, classes: int):
    n = min(n, 400)
    assert sorted(planted_rows.shuffled(i, n, np.uint64(key)) for i in range(n)) == list(range(n))
    cdf = planted_classes.class_shares(classes, rows)
    assert cdf[-1] == 1
    assert (np.diff(cdf) > 0).all()
    if rows >= classes:
        hit = np.searchsorted(cdf, (np.arange(rows) + 0.5) / rows)
        assert set(hit) == set(range(classes))


@given(
    n_cols=st.one_of(st.integers(1, 50), st.sampled_from([97, 4096, 2**31 - 1])), seed=st.integers(0, 1000)
)
def test_scattering_takes_each_column_once(n_cols: int, seed: int):
    recipe = planted_classes.make_recipe((10, n_cols, 3), min(n_cols, 2), seed=seed, split="train")
    ranks = range(min(n_cols, 200)) if n_cols < 5000 else [0, 1, n_cols // 2, n_cols - 1]
    arguments = (recipe.n_cols, recipe.multiplier, recipe.offset, 1 / n_cols)
    got = [int(planted_rows.scattered(r, *arguments)) for r in ranks]
    assert got == [(r * int(recipe.multiplier) + int(recipe.offset)) % n_cols for r in ranks]


@pytest.mark.long
def test_five_gigabytes_stay_within_bounds(tmp_path: Path):
    process, peak = psutil.Process(), []
    before = process.memory_info().rss
    answer = synth(
        "reddit_full",
        tmp_path / "s.zarr",
        rows=6_300_000,
        cols=1_000_000,
        classes=1000,
        nnz_per_row=100,
        workers=2,
        progress=lambda *_: peak.append(process.memory_info().rss - before),
    )
    assert answer["bytes"] > 5_000_000_000
    assert max(peak) < 200 << 20
