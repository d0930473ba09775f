import itertools

import numpy as np
import pytest
from scipy.optimize import minimize

from oocml import api
from oocml.data.dataset import Dataset
from oocml.data.ingest import ingest
from oocml.data.writer import DatasetWriter
from oocml.engine.in_memory import InMemory, cut_panel, problem_of
from oocml.errors import InputError
from oocml.models.protocol import Epoch, Pass, Problem
from oocml.models.robirank_explicit import RobirankExplicit
from oocml.schedule.cost import PanelSizes
from oocml.schedule.panel_layout import UNPINNED, choose_panel_layout
from oocml.types import Bounds, Panel
from tests.models.tiled import csr

MODEL = RobirankExplicit()
SIZES = (1, 12, 5, 20, 9, 30, 3)


def graded(seed=0, n_features=5, noise=0.5):
    """A panel of queries whose first two features decide, all features shifted from query to query."""
    rng = np.random.default_rng(seed)
    qid = np.repeat(np.arange(len(SIZES)), SIZES)
    X = rng.normal(size=(len(qid), n_features)) * [1, 10, 0.1, 1, 1][:n_features]
    score = X[:, 0] - X[:, 1] / 10 + noise * rng.normal(size=len(qid))
    X = np.round(X + rng.normal(size=(len(SIZES), 1))[qid], 3)
    y = np.clip(np.round(score), 0, 2)
    y[qid == 2] = 0
    return Panel(csr(X), y, np.arange(len(qid)), qid)


def begun(panel, cuts=(0,), **settings):
    n_features = int(panel.X.indices.max()) + 1
    problem = problem_of(MODEL, panel, n_features, np.unique(panel.y), **settings)
    MODEL.check(problem)
    starts = np.cumsum([0, *SIZES])
    bounds = (*(int(starts[c]) for c in cuts), len(panel.y))
    return InMemory(MODEL, problem, panel, bounds, (0, 1))


def objective_of(panel, n_features, *, rho=1, l2=0.01, max_dcg=True):
    """The objective as a function of standardised weights, by its definition."""
    X = np.zeros((len(panel.y), n_features))
    X[np.repeat(np.arange(len(panel.y)), np.diff(panel.X.indptr)), panel.X.indices] = panel.X.data
    queries = [np.flatnonzero(panel.qid == x) for x in np.unique(panel.qid)]
    within = sum(((X[rows] - X[rows].mean(axis=0)) ** 2).sum(axis=0) for rows in queries)
    Z = X / np.sqrt(within / len(X))
    weights = []
    for rows in queries:
        best = np.sort(2 ** panel.y[rows] - 1)[::-1] @ (1 / np.log2(np.arange(len(rows)) + 2))
        weights.append((1 / best if max_dcg else 1.0) if best else 0.0)
    form = {0: lambda T: T - 1, 1: np.log2, 2: lambda T: 1 - 1 / np.log2(T + 1)}[rho]

    def objective(w):
        f, total = Z @ w, 0.0
        for rows, weight in zip(queries, weights, strict=True):
            T = np.logaddexp2(0, f[None, rows] - f[rows, None]).sum(axis=1)
            total += weight * ((2 ** panel.y[rows] - 1) @ form(T))
        return total / np.count_nonzero(weights) + l2 / 2 * w @ w

    return objective


@pytest.mark.parametrize("settings", [{}, {"rho": 0}, {"max_dcg": False, "l2": 1.0}, {"history": 1}])
def test_training_ends_where_scipy_does(settings):
    panel = graded()
    run = begun(panel, **settings).run(200)
    objective = objective_of(panel, 5, **{k: v for k, v in settings.items() if k != "history"})
    found = minimize(objective, np.zeros(5), method="L-BFGS-B", options={"gtol": 1e-8, "ftol": 1e-15})
    final = run.finals[-1].objective
    assert final == pytest.approx(objective(run.state["w", 0, 0]), rel=1e-12)
    assert final == pytest.approx(found.fun, rel=1e-7)
    assert run.epochs[-1].extra["largest_gradient"] < 1e-6
    assert len(run.epochs) < 150


def test_objectives_never_rise_and_an_iteration_is_a_pass_over_the_data():
    run = begun(graded(), l2=1e-3).run(200)
    objectives = [epoch.objective for epoch in run.epochs]
    assert all(epoch.exact for epoch in run.epochs)
    assert objectives == sorted(objectives, reverse=True)
    assert run.finals[-1].objective == objectives[-1]
    assert run.epochs[-1].extra["data_passes"] < 1.3 * len(run.epochs) + 3


def test_rho_2_begins_with_rho_1_and_minimises_its_own_objective():
    panel = graded()
    run = begun(panel, rho=2).run(120)
    rhos = [p.params["rho"] for p, _ in run.passes if p.name == "visit"]
    assert rhos[0] == 1
    assert rhos[-1] == 2
    objective = objective_of(panel, 5, rho=2)
    assert run.finals[-1].objective == pytest.approx(objective(run.state["w", 0, 0]), rel=1e-12)
    assert run.finals[-1].objective == min(epoch.objective for epoch in run.epochs)
    found = minimize(objective, run.state["w", 0, 0], method="L-BFGS-B", options={"gtol": 1e-9})
    assert run.finals[-1].objective == pytest.approx(found.fun, rel=1e-6)


def test_row_blocks_change_nothing_but_rounding():
    whole, cut = begun(graded()).run(30), begun(graded(), cuts=(0, 2, 3, 5)).run(30)
    np.testing.assert_allclose(cut.state["weights", 0, 0], whole.state["weights", 0, 0], rtol=1e-6)


@pytest.mark.parametrize("normalize", ["none", "query"])
def test_units_and_shifts_by_query_change_no_ranking(normalize):
    panel = graded()
    X = np.zeros((len(panel.y), 5))
    X[np.repeat(np.arange(len(X)), np.diff(panel.X.indptr)), panel.X.indices] = panel.X.data
    scale = np.array([100, 0.5, 3, 1, 7])
    if normalize == "query":
        scale = scale * np.random.default_rng(1).uniform(0.1, 10, (len(SIZES), 5))[panel.qid]
    other = panel._replace(
        X=csr(X * scale + np.random.default_rng(2).normal(size=(len(SIZES), 5))[panel.qid])
    )
    objectives = [begun(p, normalize=normalize).run(100).finals[-1].objective for p in (panel, other)]
    assert objectives[1] == pytest.approx(objectives[0], rel=1e-4)


def test_a_feature_that_never_varies_within_a_query_gets_no_weight():
    panel = graded()
    X = np.column_stack([panel.qid + 1.0, np.arange(len(panel.y)) % 7.0])
    run = begun(panel._replace(X=csr(X))).run(20)
    assert run.state["weights", 0, 0][0] == 0 != run.state["weights", 0, 0][1]


def test_a_direction_that_misleads_is_dropped_for_the_gradient():
    run = begun(graded())
    program, sent, misled = MODEL.program(run.problem, (3,)), None, False
    turns = []
    while True:
        item = program.send(sent)
        sent = run._execute(item)
        run.n_items += 1
        if isinstance(item, Pass) and item.name == "turn":
            turns.append(item.params)
            if len(turns) == 2 and not misled:  # uphill, whatever the program is told of its slope
                run.state["move", 0, 0] *= -1
                misled = True
        if isinstance(item, Epoch) and item.number == 2:
            break
    assert any(params["back"] and not params["slots"] for params in turns)
    assert sent is not None
    assert run.epochs[1].objective < run.epochs[0].objective


def test_grades_that_only_reading_tells_are_refused():
    panel = graded()
    panel = panel._replace(y=panel.y - 0.5)
    run = begun(panel._replace(y=np.abs(panel.y)))
    run.data[0][0].grade[3] = -0.5
    with pytest.raises(InputError, match="in 1 of 80 rows"):
        run.run(1)


def test_panels_without_queries_are_refused():
    panel = graded()
    with pytest.raises(InputError, match="need queries and grades"):
        MODEL.prepare(panel._replace(qid=None), begun(panel).problem, Bounds(0, 5))


def test_mq2008_is_ranked_as_well_as_it_was(shared_data, tmp_path):
    folder = shared_data("mq2008")
    files = [folder / f"S{i}.txt.gz" for i in range(1, 6)]
    ingest("letor", files[:3], tmp_path / "train.zarr")
    ingest("letor", files[4], tmp_path / "test.zarr", like=tmp_path / "train.zarr")
    train, test = (Dataset.open(tmp_path / f"{name}.zarr") for name in ("train", "test"))
    panel = train.read_panel(0)
    run = InMemory(
        MODEL, problem_of(MODEL, panel, train.n_cols, train.labels), panel, (0, train.n_rows), (0, 1)
    ).run(200)
    assert run.finals[-1].objective == pytest.approx(5.012538, rel=1e-5)  # scipy's L-BFGS-B, gtol 1e-8
    held_out = test.read_panel(0)
    data = MODEL.prepare(held_out, run.problem, Bounds(0, train.n_cols))
    scoring = MODEL.scoring(run.problem, 0)
    state = {name: run.state[name, 0, 0] for name in scoring.reads}
    counted = scoring.metrics(scoring.begin(data, len(held_out.y), state), data)
    told = scoring.scores(counted)
    assert told["ndcg_at_10"] > 0.705
    assert told["n_queries_left_out"] == 51


def test_panels_of_large_data_are_tasks_of_their_own_and_of_huge_data_grouped():
    def n_tasks(n_panels):
        panels = PanelSizes(np.full(n_panels, 8_000), np.full(n_panels, 8 * 2**20))
        sums = np.full(136, 8_000 * n_panels), np.full(136, 8e3 * n_panels)
        shape = 8_000 * n_panels, 136, 10**6 * n_panels
        problem = Problem(*shape, *sums, None, "number", MODEL.defaults(), 0, n_queries=9)
        layout, _ = choose_panel_layout(MODEL, problem, panels, 2**27, UNPINNED)
        assert layout.row_bounds[-1] == problem.n_rows
        return len(layout.row_task_bounds) - 1

    assert n_tasks(1) == 1
    assert 5 <= n_tasks(40) <= 14
    assert 200 < n_tasks(40_000) <= 300


def test_many_panels_on_disk_train_as_one_in_memory(tmp_path, monkeypatch):
    panel = graded()
    monkeypatch.setattr("oocml.schedule.panel_layout.ROW_TASK_BYTES", 1000)
    writer = DatasetWriter(tmp_path / "x.zarr", n_cols=5, label_kind="number")
    starts = np.cumsum([0, *SIZES])
    cuts = [0, *(int(starts[c]) for c in (2, 3, 5)), len(panel.y)]
    for p, (lo, hi) in enumerate(itertools.pairwise(cuts)):
        part = cut_panel(panel, Bounds(lo, hi))
        writer.write_panel(p, part, qid=part.qid)
    writer.finish(n_panels=4)
    run = api.train("robirank", tmp_path / "x.zarr", tmp_path / "run.zarr", schedule="serial", epochs=15)
    assert run.config["model"] == MODEL.name
    assert len(run.config["layout"]["row_task_bounds"]) > 3
    alone = begun(panel).run(15)
    assert run.summary()["objective"] == pytest.approx(alone.finals[-1].objective, rel=1e-10)
    told = run.evaluate(tmp_path / "x.zarr")
    assert told["objective"] == pytest.approx(alone.finals[-1].objective, rel=1e-10)
    assert told["n_queries"] == len(SIZES)
