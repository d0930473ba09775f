import numpy as np
import pytest

from oocml.errors import InputError, UsageError
from oocml.models.protocol import Epochs, Pass
from oocml.models.robirank_implicit import RobirankImplicit, rho_of
from oocml.models.robirank_implicit_settings import first_rate, measured_weights, n_negatives, ridge
from oocml.types import Bounds, Csr
from tests.kernels.interacted import partitions, rank_sums
from tests.models.interests import planted, scores_of, training
from tests.models.test_contract import passes_of, recorded
from tests.models.tiled import begin, csr, scored

LOGISTIC = {"surrogate": "logistic"}
KINDS = {
    "exp": {},
    "logistic": LOGISTIC,
    "xi": {**LOGISTIC, "xi": "exact", "refresh": 2},
    "rho2": {**LOGISTIC, "rho": 2},
    "bpr": {"loss": "bpr"},
    "warp": {"loss": "warp"},
}


def objective(run, liked):
    """By brute force in float64."""
    S, settings = scores_of(run), run.problem.settings
    if settings["loss"] == "robirank" and settings["surrogate"] == "exp":
        loss = np.log2(1 + partitions(liked, S)[:, None] / np.exp2(S))
    else:
        sums = rank_sums(liked, S)
        loss = np.log2(1 + sums) if settings["rho"] == 1 else 1 - 1 / np.log2(sums + 2)
        loss = sums / liked.shape[1] if settings["loss"] == "bpr" else loss
    squares = [(run.joined(name).astype(np.float64) ** 2).sum(axis=1) for name in ("U", "V")]
    squares = squares[0][:, None] + squares[1]
    return (loss + ridge(run.problem) / 2 * squares)[liked].mean()


@pytest.mark.parametrize("kind", KINDS)
def test_the_final_objective_is_exact_and_epochs_lower_it(kind):
    liked, _ = planted()
    liked[5] = False
    run = training(liked, **KINDS[kind])
    before = objective(run, liked)
    run.run(6)
    assert run.finals[0].objective == pytest.approx(objective(run, liked), rel=1e-5)
    assert run.finals[0].objective < before
    assert [epoch.number for epoch in run.epochs] == list(range(1, 7))


def test_the_running_objective_nears_the_exact_one():
    liked, _ = planted()
    run = training(liked, n_negatives=2000).run(30)
    assert run.epochs[-1].objective == pytest.approx(run.finals[0].objective, rel=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_training_ranks_what_was_held_out_far_above_chance(kind):
    liked, held_out = planted(n_users=150)
    run = training(liked, **KINDS[kind]).run(20)
    found, _ = scored(run, csr(held_out))
    assert found["auc"] > 0.68
    assert found["ndcg_at_10"] > 0.2


def test_quality_does_not_depend_on_blocks():
    liked, held_out = planted(n_users=300, n_items=100, seed=1)

    def quality(blocks, seed):
        run = training(liked, blocks=blocks, seed=seed).run(15)
        return scored(run, csr(held_out))[0]["ndcg_at_10"]

    whole, cut = (np.mean([quality(blocks, seed) for seed in (0, 1)]) for blocks in ((1, 1), (4, 8)))
    assert cut > 0.96 * whole


def test_xi_is_exact_after_a_tour():
    liked, _ = planted(n_users=30, n_items=40)
    run = training(liked, blocks=(3, 4), **KINDS["xi"])
    items = [item for item, _ in recorded(run, 2)]
    fresh = training(liked, blocks=(3, 4), **KINDS["xi"])
    for item in items[: [item.name for item in passes_of([(i, 0) for i in items])].index("measure")]:
        fresh._execute(item)
        fresh.n_items += 1
    for pass_ in fresh.model.other_passes(fresh.problem):
        if pass_.name in ("nodes", "refresh") or pass_.params.get("every_item"):
            fresh.run_pass(pass_)
    expected = 1 / (1 + rank_sums(liked, scores_of(fresh)))
    for p, rows in enumerate(fresh.rows):
        for q, cols in enumerate(fresh.cols):
            part = slice(*rows), slice(*cols)
            np.testing.assert_allclose(fresh.state["xi", p, q], expected[part][liked[part]], rtol=1e-5)


def test_tours_of_rank_sums_come_every_refresh_epochs_and_not_before_the_first():
    liked, _ = planted(n_users=20)
    run = training(liked, **KINDS["xi"])
    names = [p.name for p in passes_of(recorded(run, 5))]
    assert "".join({"visit": "v", "refresh": "x"}.get(name, "") for name in names) == "vvxvvxv"
    first = next(p for p in passes_of(recorded(training(liked, **KINDS["xi"]), 1)) if p.name == "visit")
    assert "xi" in first.reads
    assert "xi" not in first.writes


def test_rho2_begins_with_rho1():
    run = training(planted()[0], **KINDS["rho2"])
    assert [rho_of(run.problem, e, 5) for e in range(5)] == [1, 1, 1, 2, 2]
    assert rho_of(training(planted()[0]).problem, 4, 5) == 1


def test_epochs_wait_for_nothing_unless_xi_is_kept():
    for kind, whole in (("exp", True), ("rho2", True), ("bpr", True), ("warp", True), ("xi", False)):
        items = [item for item, _ in recorded(training(planted()[0], **KINDS[kind]), 3)]
        assert any(isinstance(item, Epochs) for item in items) == whole


def test_early_stopping_ends_tours_too():
    run = training(planted()[0], **KINDS["xi"])
    run.stop_at = 2
    run.run(5)
    assert len(run.epochs) == 2


def test_values_weigh_pairs():
    liked, _ = planted()
    values = np.where(liked, np.random.default_rng(0).integers(1, 6, liked.shape), 0).astype(np.float32)
    same, twice = csr(np.where(liked, 1.0, 0)), csr(np.where(liked, 2.0, 0))
    model, given = RobirankImplicit(), {"n_factors": 3, "n_negatives": 32}
    plain = begin(model, csr(values), 60, **given).run(2)
    np.testing.assert_array_equal(plain.joined("U"), begin(model, same, 60, **given).run(2).joined("U"))
    weighted = begin(model, csr(values), 60, weighted=True, **given).run(2)
    assert (weighted.joined("U") != plain.joined("U")).any()
    doubled = begin(model, twice, 60, weighted=True, l2=0.0, **given)
    loss = doubled.run(0).finals[0].objective
    assert loss == pytest.approx(2 * objective(doubled, liked), rel=1e-5)


def test_defaults_follow_the_data():
    problem = training(planted()[0], n_negatives=None).problem
    assert first_rate(problem) == 0.2
    assert n_negatives(problem) == 256
    assert n_negatives(problem._replace(n_features=10_001)) == 512
    assert ridge(problem._replace(nnz=8100, n_rows=300)) == pytest.approx(
        0.2213, abs=1e-4
    )  # 27 per user: Gowalla
    assert ridge(problem._replace(settings={**problem.settings, "l2": 0.5})) == 0.5


def test_measured_items_are_drawn_by_a_chance_that_their_weights_make_up_for():
    problem = training(planted()[0]).problem
    counts = np.random.default_rng(0).pareto(1, 50_000).astype(np.int64)
    problem = problem._replace(n_features=50_000, feature_nnz=counts, nnz=int(counts.sum()))
    weight = measured_weights(problem, Bounds(0, 50_000))
    assert 600 < np.count_nonzero(weight) <= 1100
    assert weight.sum() == pytest.approx(50_000, rel=0.1)
    np.testing.assert_array_equal(measured_weights(problem, Bounds(700, 900)), weight[700:900])
    assert weight[counts.argmax()] == 1
    small = problem._replace(n_features=400, feature_nnz=counts[:400], nnz=int(counts[:400].sum()))
    np.testing.assert_array_equal(measured_weights(small, Bounds(0, 400)), 1)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"loss": "hinge"}, "loss is 'hinge'; robirank-implicit has robirank, bpr, warp"),
        ({"surrogate": "sigmoid"}, "surrogate is 'sigmoid'"),
        ({"rho": 2}, "rho=2 belongs to surrogate=logistic"),
        ({"xi": "exact", "loss": "bpr"}, "xi=exact belongs to surrogate=logistic"),
        ({"surrogate": "logistic", "loss": "warp"}, "loss=warp has a surrogate of its own"),
        ({"rho": 3, "surrogate": "logistic"}, "rho is 3 but must be a whole number from 1 to 2"),
        ({"n_factors": 0}, "n_factors is 0"),
        ({"n_negatives": 0}, "n_negatives is 0"),
        ({"l2": -1.0}, "l2 is -1.0"),
        ({"learning_rate": 0}, "learning_rate is 0"),
        ({"weight_cap": 0}, "weight_cap is 0"),
        ({"weighted": 1}, "weighted is 1 but must be true or false"),
    ],
)
def test_settings_without_a_meaning_are_refused(settings, reason):
    with pytest.raises(UsageError, match=reason):
        training(planted()[0], **settings)


def test_data_without_interactions_are_refused():
    empty = Csr(np.zeros(5, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32))
    with pytest.raises(InputError, match="robirank-implicit needs interactions"):
        begin(RobirankImplicit(), empty, 4)


def test_a_run_with_the_same_seed_has_the_same_bits():
    liked, _ = planted()
    runs = [training(liked, seed=seed).run(2) for seed in (5, 5, 6)]
    np.testing.assert_array_equal(runs[0].joined("U"), runs[1].joined("U"))
    assert (runs[0].joined("U") != runs[2].joined("U")).any()


def test_passes_over_pairs_write_no_factors():
    run = training(planted()[0])
    for pass_ in run.model.other_passes(run.problem):
        assert isinstance(pass_, Pass)
        assert not {"U", "V"} & set(pass_.writes)
