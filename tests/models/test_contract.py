"""What the engine relies on, held against every model from one table: add a line for a new one."""

import copy
import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from oocml.metrics.directions import is_metric
from oocml.models.protocol import Epoch, Epochs, Final, Pass, Verdict
from oocml.models.registry import BUILTIN, load_model
from oocml.schedule.tasks import check_pass
from oocml.types import Csr
from tests.models.tiled import begin, csr, cuts, scored

ROBUST = f"{Path(__file__).resolve().parents[2] / 'docs' / 'examples' / 'robust.py'}:Robust"
XI = {"n_factors": 3, "surrogate": "logistic"}


class Data(NamedTuple):
    X: Csr
    y: np.ndarray | None
    n_cols: int
    qid: np.ndarray | None = None


def classes(n: int) -> Callable[[], Data]:
    def make() -> Data:
        rng = np.random.default_rng(3)
        X = (rng.random((60, 12)) < 0.4) * rng.gamma(2, size=(60, 12))
        y = (X @ rng.normal(size=(12, n)) + rng.gumbel(size=(60, n))).argmax(axis=1).astype(np.float64)
        y[:n] = np.arange(n)
        return Data(csr(X), y, 12)

    return make


def numbers() -> Data:
    data = classes(2)()
    return data._replace(y=np.random.default_rng(4).normal(5, 2, 60))


def ratings() -> Data:
    rng = np.random.default_rng(5)
    return Data(csr(rng.integers(1, 6, (60, 12)), rng.random((60, 12)) < 0.5), None, 12)


def queries() -> Data:
    """Graded rows, with queries that end where these tests cut rows."""
    data, ends = classes(3)(), {7, 8, 14, 25, 33, 40, 52, *cuts(60, 3)}
    return data._replace(qid=np.isin(np.arange(60), list(ends)).cumsum())


def interactions() -> Data:
    data = ratings()
    return data._replace(X=data.X._replace(data=np.ones_like(data.X.data)))


class Case(NamedTuple):
    model: str
    data: Callable[[], Data]
    settings: dict[str, Any] = {}
    infers_rows: bool = False
    """Whether scoring infers what belongs to rows anew, so that the bound can only be better than the final one."""


CASES = {
    "mlr": Case("mlr", classes(5)),
    "mlr polish": Case("mlr", classes(5), {"polish": 1}),
    "mlr lbfgs": Case("mlr", classes(5), {"solver": "lbfgs"}),
    "mlr lc": Case("mlr", classes(5), {"solver": "lc"}),
    "mf": Case("mf", ratings, {"n_factors": 3}),
    "mf plain": Case("mf", ratings, {"n_factors": 9, "step": "bold_driver", "weighted_l2": False}),
    "mf non-negative": Case("mf", ratings, {"n_factors": 3, "non_negative": True, "biases": False}),
    "fm labels": Case("fm", classes(2), {"n_factors": 3}),
    "fm numbers": Case("fm", numbers, {"n_factors": 3, "step": "inverse_sqrt"}),
    "fm linear": Case("fm", classes(2), {"n_factors": 0}),
    "fm dsfacto": Case("fm", classes(2), {"n_factors": 3, "solver": "dsfacto"}),
    "fm two passes": Case("fm", numbers, {"n_factors": 3, "solver": "dsfacto", "tour": "two_pass"}),
    "poly labels": Case("poly", classes(2)),
    "poly numbers": Case("poly", numbers),
    "gmm": Case("gmm", numbers, {"n_components": 4, "batch_rows": 8}),
    "gmm full": Case("gmm", numbers, {"n_components": 3, "covariance": "full", "init": "k-means++"}),
    "gmm svi": Case("gmm", numbers, {"n_components": 4, "inference": "svi", "batch_rows": 16}),
    "gmm stored": Case("gmm", numbers, {"n_components": 4, "store_z": True, "top_k": 2}),
    "gmm subset": Case("gmm", numbers, {"n_components": 5, "inference": "subset", "z_dtype": "float16"}),
    "gmm vi": Case("gmm", numbers, {"n_components": 4, "inference": "vi"}),
    "lda": Case("lda", ratings, {"n_topics": 3}, infers_rows=True),
    "lda cvb0": Case("lda", ratings, {"n_topics": 19, "inference": "cvb0", "z_dtype": "float32"}, True),
    "lda top k": Case("lda", ratings, {"n_topics": 19, "top_k": 8, "exact_every": 1}, True),
    "lda without z": Case("lda", ratings, {"n_topics": 3, "store_z": False}, True),
    "lda vi": Case("lda", ratings, {"n_topics": 3, "inference": "vi", "inner": 3}, True),
    "lda vi after cvb0": Case("lda", ratings, {"n_topics": 3, "inference": "vi", "start": "cvb0"}, True),
    "lda svi": Case("lda", ratings, {"n_topics": 3, "inference": "svi", "batches": 2}, True),
    "robirank": Case("robirank-explicit", queries),
    "robirank rho 2": Case("robirank-explicit", queries, {"rho": 2, "normalize": "query", "history": 2}),
    "robirank implicit": Case("robirank-implicit", interactions, {"n_factors": 3}),
    "robirank weighted": Case("robirank-implicit", ratings, {"n_factors": 3, "weighted": True}),
    "robirank xi": Case("robirank-implicit", interactions, {**XI, "xi": "exact", "refresh": 1}),
    "robirank rho2": Case("robirank-implicit", interactions, {**XI, "rho": 2}),
    "bpr": Case("robirank-implicit", interactions, {"n_factors": 3, "loss": "bpr"}),
    "warp": Case("robirank-implicit", interactions, {"n_factors": 3, "loss": "warp"}),
    "robust": Case(ROBUST, classes(4)),
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request):
    return request.param


def started(case: Case, **more: Any) -> Any:
    data = case.data()
    settings = case.settings | more
    return begin(load_model(case.model), data.X, data.n_cols, data.y, qid=data.qid, **settings)


def digest(value: Any) -> str:
    return hashlib.sha256(pickle.dumps(value)).hexdigest()


def covers(declared: Pass, pass_: Pass) -> bool:
    """Whether a plan that fits the one fits the other. Numbers at the ends of names are slots of a history."""

    def kinds(names: tuple[str, ...]) -> set[str]:
        return {name.rstrip("0123456789") for name in names}

    sizes = ("over", "kernel", "data", "sweeps", "scratch", "ahead", "consumes")
    return (
        all(getattr(declared, name) == getattr(pass_, name) for name in sizes)
        and kinds(pass_.reads) <= kinds(declared.reads)
        and kinds(pass_.writes) <= kinds(declared.writes)
    )


def recorded(run: Any, *segments: int) -> list[tuple[Any, Any]]:
    """(item, what was sent back) of a whole training."""
    program, found, sent = run.model.program(run.problem, segments), [], None
    while True:
        try:
            item = program.send(sent)
        except StopIteration:
            return found
        sent = run._execute(item)
        run.n_items += 1
        found.append((item, sent))


def same_item(a: Any, b: Any) -> bool:
    if isinstance(a, Epochs):
        return isinstance(b, Epochs) and (a.pass_, a.params) == (b.pass_, b.params)
    return bool(a == b)


def passes_of(items: list[tuple[Any, Any]]) -> list[Pass]:
    found = [item.pass_ if isinstance(item, Epochs) else item for item, _ in items]
    return [item for item in found if isinstance(item, Pass)]


def test_every_built_in_model_is_in_the_table():
    assert set(BUILTIN) <= {case.model for case in CASES.values()}


def test_faces(case):
    run = started(case)
    model = run.model
    assert model.name
    assert model.col_axis
    assert model.epochs >= 1
    multiple, most = model.block_cols
    assert 1 <= multiple <= most
    assert run.problem.settings == {**model.defaults(), **case.settings}
    assert pickle.loads(pickle.dumps(run.problem.settings)) == run.problem.settings


def test_state_is_declared_and_begins_the_same_however_it_is_cut(case):
    run = started(case)
    specs, again = run.model.state(run.problem), started(case)
    assert len({spec.name for spec in specs}) == len(specs)
    for spec in specs:
        axis = {"row": "rows", "col": "cols"}.get(spec.kind)
        first = {"row": ("rows", "batches"), "cell": ("rows", "entries")}.get(spec.kind)
        assert first is None or spec.dims[0] in first
        assert not spec.merge or spec.kind == "shared"
        for key, block in run.state.items():
            if key[0] == spec.name:
                assert np.isfinite(block).all()
                np.testing.assert_array_equal(block, again.state[key])
        if spec.kind in ("row", "col") and axis in spec.dims:
            whole = started(case, blocks=(1, 1)).joined(spec.name)
            np.testing.assert_array_equal(run.joined(spec.name), whole)


def test_the_program_depends_on_the_problem_and_its_results_alone(case):
    first = recorded(started(case), 2, 1)
    fresh = started(case)
    program, sent = fresh.model.program(fresh.problem, (2, 1)), None
    for item, result in first:
        replayed = program.send(sent)
        assert same_item(replayed, item)
        sent = result
    with pytest.raises(StopIteration):
        program.send(sent)


def test_passes_are_declared_for_the_plan_and_say_what_the_engine_can_do(case):
    run = started(case)
    declared = [*run.model.epoch_passes(run.problem), *run.model.other_passes(run.problem)]
    for pass_ in passes_of(recorded(run, 2, 1)):
        assert any(covers(other, pass_) for other in declared), pass_.name
        assert {*pass_.reads, *pass_.writes, *pass_.consumes} <= set(run.specs)
        assert pass_.kernel in run.model.kernels
        pickle.dumps(pass_)
        check_pass(pass_, run.specs, tiles=run.model.tiles)


def test_passes_change_what_they_declare_and_nothing_else(case):
    run = started(case)
    data = digest(run.data), digest(run.constants)
    for pass_ in passes_of(recorded(run, 1)):
        state, kept = copy.deepcopy(run.state), run.n_items
        parts = run.run_pass(pass_)
        for key, block in run.state.items():
            if key[0] not in pass_.writes:
                np.testing.assert_array_equal(block, state[key], err_msg=f"{pass_.name} {key}")
        for value in parts.values():
            assert np.isfinite(value).all()
        # a pass that is run again from the same state has the same bits
        after, run.state, run.n_items = run.state, state, kept
        again = run.run_pass(pass_)
        assert {name: np.asarray(value).tolist() for name, value in again.items()} == {
            name: np.asarray(value).tolist() for name, value in parts.items()
        }
        for key, block in run.state.items():
            np.testing.assert_array_equal(block, after[key])
    assert (digest(run.data), digest(run.constants)) == data


def test_segments_epochs_and_final_objectives(case):
    run = started(case).run(2, 3)
    assert [epoch.number for epoch in run.epochs] == [1, 2, 3, 4, 5]
    assert len(run.finals) == 2
    values = [item.objective for item in (*run.epochs, *run.finals)]
    values += [value for item in (*run.epochs, *run.finals) for value in item.extra.values()]
    assert np.isfinite(values).all()


def test_a_verdict_ends_the_segment_as_a_whole_training_does(case):
    run = started(case)
    run.stop_at = 1
    kinds = [type(item) for item, _ in recorded(run, 3)]
    assert kinds[-1] is Final
    assert kinds.count(Final) == 1
    assert len(run.epochs) == 1


def test_what_scoring_reads_is_exported(case):
    run = started(case)
    for top in (0, 2):
        scoring = run.model.scoring(run.problem, top)
        assert all(run.specs[name].export for name in scoring.reads)


def test_what_a_model_chooses_was_left_to_it_and_could_have_been_given(case):
    run = started(case)
    chosen = getattr(run.model, "chosen_settings", lambda problem: {})(run.problem)
    assert all(run.model.defaults()[name] is None for name in chosen)
    given = {name: value for name, value in chosen.items() if run.problem.settings[name] is None}
    run.model.check(run.problem._replace(settings={**run.problem.settings, **given}))


def test_scores_do_not_depend_on_batches_and_know_the_final_objective(case):
    data, run = case.data(), started(case).run(2)
    whole, outputs = scored(run, data.X, data.y, qid=data.qid)
    cut, pieces = scored(run, data.X, data.y, batches=(7, 8, 40), qid=data.qid)
    assert whole.keys() == cut.keys()
    np.testing.assert_allclose(list(whole.values()), list(cut.values()), rtol=1e-5)
    names = getattr(run.model.scoring(run.problem, 0), "metric_names", None)
    assert names is None or set(names) == {name for name in whole if is_metric(name)}
    final = run.finals[-1].objective
    if case.infers_rows:
        assert whole["objective"] < final + 1e-3 * abs(final)
    else:
        assert whole["objective"] == pytest.approx(final, rel=1e-5)
    for name, values in outputs[0].items():
        joined = np.concatenate([piece[name] for piece in pieces])
        assert len(joined) == len(values)
        if name not in ("rows", "columns"):
            np.testing.assert_allclose(joined, values, rtol=1e-4, atol=1e-6)


def test_a_sent_verdict_is_all_an_epoch_waits_for(case):
    run = started(case)
    for item, sent in recorded(run, 1):
        assert isinstance(sent, Verdict) == isinstance(item, Epoch)
