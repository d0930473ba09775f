import numpy as np
import pytest

from oocml.errors import InputError, UsageError
from oocml.models.lda import LDA
from oocml.models.lda_settings import dense_epochs, kind_of, support_size
from oocml.models.protocol import Epoch, Epochs, Pass, Verdict
from oocml.types import Csr
from tests.kernels.counted import rows_of
from tests.models.tiled import begin
from tests.models.topics import best_responsibilities, bound, cells, planted, responsibilities, training

STORED = [
    {},
    {"inference": "cvb0"},
    {"z_dtype": "float32"},
    {"n_topics": 20, "top_k": 8},
    {"start": "cold"},
    {"learn_priors": True},
]
BATCHES = [
    {"store_z": False},
    {"store_z": False, "inference": "cvb0"},
    {"inference": "vi"},
    {"inference": "vi", "start": "cvb0"},
    {"inference": "svi", "batches": 3},
]


def priors(run):
    return run.state["priors", 0, 0][:2]


@pytest.mark.parametrize("settings", STORED)
def test_final_objective_is_the_bound_of_what_is_kept(settings):
    X = planted()
    run = training(X, **settings).run(12)
    z = responsibilities(run)
    z /= z.sum(axis=1, keepdims=True)  # half precision rounds
    alpha, eta = priors(run)
    gamma, topic_word = (run.joined(name).astype(np.float64) for name in ("gamma", "topic_word"))
    wanted = bound(X, z, gamma, topic_word, alpha, eta) / X.data.sum()
    assert run.finals[0].objective == pytest.approx(-wanted, rel=1e-4)
    assert run.finals[0].extra["elbo"] == -run.finals[0].objective
    assert [epoch.number for epoch in run.epochs] == list(range(1, 13))


@pytest.mark.parametrize("settings", STORED)
def test_sums_are_those_of_the_responsibilities(settings):
    X = planted()
    run = training(X, **settings).run(12)
    z, (alpha, eta) = responsibilities(run), priors(run)
    np.testing.assert_allclose(z.sum(axis=1), 1, atol=1e-6 if settings.get("z_dtype") else 3e-3)
    gamma, topic_word = run.joined("gamma"), run.joined("topic_word")
    weighted = X.data[:, None] * z
    wanted = np.full(gamma.shape, alpha)
    np.add.at(wanted, rows_of(X), weighted)
    np.testing.assert_allclose(gamma, wanted, rtol=1e-6, atol=1e-6)
    wanted = np.full(topic_word.shape, eta)
    np.add.at(wanted, X.indices, weighted)
    wanted[np.bincount(X.indices, minlength=60) == 0] = 0  # words that never occur are no part of the model
    np.testing.assert_allclose(topic_word, wanted, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(run.state["totals", 0, 0], topic_word.sum(axis=0, dtype=float), rtol=1e-9)


@pytest.mark.parametrize("settings", BATCHES)
@pytest.mark.parametrize("blocks", [(3, 2), (3, 1)])
def test_final_objective_is_the_bound_of_the_best_responsibilities(settings, blocks):
    X = planted()
    run = training(X, blocks=blocks, **settings).run(6)
    name = next(p.params["counts"] for p, _ in reversed(run.passes) if p.kernel == "batch_document_terms")
    gamma = run.joined(name).astype(np.float64) + 0.1
    topic_word = run.joined("topic_word").astype(np.float64)
    z = best_responsibilities(X, gamma, np.where(topic_word > 0, topic_word, 1e-30))
    wanted = bound(X, z, gamma, topic_word, 0.1, 0.01) / X.data.sum()
    assert run.finals[0].objective == pytest.approx(-wanted, rel=1e-4)


@pytest.mark.parametrize("inference", ["vi", "svi"])
def test_blocks_do_not_matter_to_inferred_documents(inference):
    X = planted()
    settings = {"inference": inference, "batches": 3, "inner": 100}
    cut, whole = (training(X, blocks=(3, n), **settings).run(5) for n in (4, 1))
    assert cut.finals[0].objective == pytest.approx(whole.finals[0].objective, rel=2e-3)


@pytest.mark.parametrize("start", ["cvb0", "cold"])
@pytest.mark.parametrize("top_k", [0, 8])
def test_exact_visits_never_lower_the_bound(start, top_k):
    X = planted(200, 100, 6)
    given = {"n_topics": 20, "sub_epoch_width": 1, "exact_every": 1, "z_dtype": "float32"}
    run = training(X, 100, start=start, top_k=top_k, cvb0_epochs=8, dense_epochs=8, **given).run(50)
    values = np.array([epoch.objective for epoch in run.epochs])
    assert all(epoch.exact for epoch in run.epochs)
    since = 8 if start == "cvb0" or top_k else 0
    assert (np.diff(values[since:]) < 1e-6).all()
    assert values[-1] == pytest.approx(run.finals[0].objective, rel=1e-9)


def test_cvb0_first_ends_better_than_a_cold_start_and_than_vi():
    X = planted(300, 120, 10, seed=2)
    best, cold, vi = (
        training(X, 120, n_topics=20, **settings).run(40).finals[0].objective
        for settings in ({}, {"start": "cold"}, {"inference": "vi"})
    )
    assert best < cold - 0.02
    assert best < vi + 0.02


def test_vi_has_little_to_gain_where_esvi_ends():
    X = planted()
    run = training(X).run(80)
    vi = training(X, inference="vi", inner=100)
    for q in range(len(vi.cols)):
        vi.state["topic_word", 0, q][...] = run.state["topic_word", 0, q]
    vi.run(10)
    end = run.finals[0].objective
    assert vi.finals[0].objective > end - 1e-3 * abs(end)


def test_few_topics_for_each_entry_are_enough():
    X = planted(300, 120, 10, seed=2)
    dense, few = (training(X, 120, n_topics=40, top_k=k).run(40).finals[0].objective for k in (0, 8))
    assert few == pytest.approx(dense, abs=0.02)


@pytest.mark.parametrize("blocks", [(1, 1), (8, 8)])
def test_quality_does_not_depend_on_the_blocks(blocks):
    X = planted(300, 120, 6, seed=2)
    cut, other = (training(X, 120, n_topics=10, blocks=b).run(40) for b in (blocks, (3, 2)))
    assert cut.finals[0].objective == pytest.approx(other.finals[0].objective, abs=0.03)


@pytest.mark.parametrize("settings", [{}, {"store_z": False}])
def test_the_start_does_not_depend_on_the_blocks(settings):
    X = planted()
    one, other = (training(X, blocks=blocks, cvb0_epochs=1, **settings) for blocks in ((1, 1), (5, 4)))
    for run in (one, other):
        next_pass = run.model.program(run.problem, (1,)).send(None)
        run.run_pass(next_pass)
    np.testing.assert_allclose(one.joined("topic_word"), other.joined("topic_word"), rtol=1e-5)
    if not settings:
        np.testing.assert_array_equal(cells(one, "z"), cells(other, "z"))


def test_learnt_priors_fit_better():
    X = planted(300, 120, 6, seed=2)
    fixed, learnt = (training(X, 120, n_topics=6, learn_priors=b).run(40) for b in (False, True))
    assert learnt.finals[0].objective < fixed.finals[0].objective
    alpha, eta = priors(learnt)
    assert learnt.finals[0].extra["alpha"] == alpha
    assert 0.1 < alpha < 0.4  # planted: 0.2
    assert 0.03 < eta < 0.16  # 0.08


def test_top_words_are_the_most_probable():
    run = training(planted()).run(20)
    phi = run.joined("topic_word") / run.state["totals", 0, 0]
    top, weights = run.state["top_words", 0, 0], run.state["top_weights", 0, 0]
    for k in range(4):
        np.testing.assert_allclose(weights[k], np.sort(phi[:, k])[::-1][:10], rtol=1e-5)
        np.testing.assert_allclose(phi[top[k], k], weights[k], rtol=1e-5)


def test_a_run_with_the_same_seed_has_the_same_bits():
    X = planted()
    runs = [training(X, seed=seed).run(3) for seed in (5, 5, 6)]
    np.testing.assert_array_equal(runs[0].joined("topic_word"), runs[1].joined("topic_word"))
    assert (runs[0].joined("topic_word") != runs[2].joined("topic_word")).any()


def test_segments_go_on_where_the_last_one_ended():
    run = training(planted(), n_topics=20, top_k=8).run(12, 4)
    assert [epoch.number for epoch in run.epochs] == list(range(1, 17))
    assert run.finals[1].objective < run.finals[0].objective + 1e-4


@pytest.mark.parametrize("stop_at", range(1, 9))
def test_a_training_can_be_stopped_after_any_epoch(stop_at):
    run = training(planted(), n_topics=20, top_k=8, dense_epochs=3, exact_every=5)
    run.stop_at = stop_at
    run.run(8)
    assert [epoch.number for epoch in run.epochs] == list(range(1, stop_at + 1))
    assert len(run.finals) == 1


class Found(dict):
    """Parts of any pass."""

    def __missing__(self, name):
        return {"sums": np.ones(40), "bad": 0, "stopped": 0}.get(name, 1.0)


def items_of(total: int, **settings) -> list:
    """What the program of a training yields, most of whose results are 1."""
    problem = training(planted()).problem
    problem = problem._replace(settings=LDA().defaults() | {"n_topics": 40, "top_k": 8} | settings)
    program, items, sent = LDA().program(problem, (total,)), [], None
    while True:
        try:
            items.append(program.send(sent))
        except StopIteration:
            return items
        if isinstance(items[-1], Epochs):
            sent = [Found()] * len(items[-1].params)
        else:
            sent = Verdict(False) if isinstance(items[-1], Epoch) else Found()


@pytest.mark.parametrize("settings", [{}, {"inference": "vi"}])
def test_top_words_in_between_are_a_few_epochs_old_at_most(settings):
    number, found_at, oldest = 0, [], 0
    for item in items_of(40, **settings):
        if isinstance(item, Pass) and item.name == "top_words":
            found_at.append(number)
        number += len(item.params) if isinstance(item, Epochs) else isinstance(item, Epoch)
        if found_at:
            oldest = max(oldest, number - found_at[-1])
    assert number == found_at[-1] == 40
    assert oldest == 5


def test_updates_count_the_topics_of_each_entry():
    passes = [item.pass_ for item in items_of(40) if isinstance(item, Epochs)]
    assert {pass_.reads[-1]: pass_.per_entry for pass_ in passes} == {"z": 40, "z_index": 8}


def dense_before_supports(outside: list[float], total: int) -> int:
    """Dense epochs of a training whose looks at its responsibilities find these shares outside of supports."""
    settings = LDA().defaults() | {"n_topics": 40, "top_k": 8}
    program = LDA().program(training(planted()).problem._replace(settings=settings), (total,))
    item, done, shares = next(program), 0, iter(outside)
    while not (isinstance(item, Pass) and item.name == "truncate"):
        done += len(item.params) if isinstance(item, Epochs) else isinstance(item, Epoch)
        if isinstance(item, Epochs):
            item = program.send([Found()] * len(item.params))
        elif isinstance(item, Epoch):
            item = program.send(Verdict(False))
        else:
            item = program.send(Found(outside=next(shares) if item.name == "outside" else 1.0))
    return done


@pytest.mark.parametrize(
    ("total", "outside", "dense"),
    [
        (40, [0.02], 20),
        (40, [0.04, 0.031], 30),
        (40, [0.04, 0.029], 25),
        (100, [0.1, 0.1, 0.029], 60),
        (100, [0.1] * 5, 75),
        (12, [], 9),
    ],
)
def test_supports_wait_until_little_is_outside_of_them(total, outside, dense):
    assert dense_before_supports(outside, total) == dense


def test_epochs_say_what_they_measure():
    run = training(planted(), exact_every=4, cvb0_epochs=3).run(4)
    assert [set(epoch.extra) for epoch in run.epochs] == [{"cvb0"}] * 3 + [{"esvi", "elbo"}]
    assert run.epochs[0].extra["cvb0"] == -run.epochs[0].objective


def test_topics_that_have_not_come_apart_are_told_of():
    one, many = (training(planted(), inference="cvb0").run(n).finals[0].notice for n in (1, 40))
    assert "alike after 1 epochs" in one
    assert "\n" not in one
    assert many == ""


def test_kinds_of_epochs():
    settings = LDA().defaults()
    kinds = [kind_of(settings, number, 8) for number in range(1, 9)]
    assert kinds == ["cvb0"] * 6 + ["esvi"] * 2
    assert kind_of(settings | {"cvb0_epochs": 2}, 3, 8) == "esvi"
    assert kind_of(settings | {"start": "cold"}, 1, 8) == "esvi"
    assert kind_of(settings | {"inference": "vi"}, 1, 8) == "vi"
    assert kind_of(settings | {"inference": "vi", "start": "cvb0"}, 1, 8) == "cvb0"
    assert kind_of(settings | {"inference": "cvb0"}, 8, 8) == "cvb0"
    found = [dense_epochs(settings, total) for total in (1, 10, 20, 40, 100)]
    assert found == [(1, 1), (7, 7), (15, 15), (20, 30), (50, 75)]
    assert dense_epochs(settings | {"dense_epochs": 3}, 40) == (3, 3)


@pytest.mark.parametrize(
    ("n_topics", "top_k", "size"),
    [(128, None, 16), (20, None, 0), (32, None, 8), (20, 1, 8), (20, 9, 16), (16, 16, 0), (128, 0, 0)],
)
def test_supports_are_multiples_of_eight(n_topics, top_k, size):
    assert support_size(LDA().defaults() | {"n_topics": n_topics, "top_k": top_k}) == size


@pytest.mark.parametrize("bad", [-1.0, np.nan])
def test_counts_below_zero_are_refused(bad):
    X = planted()
    X.data[10] = bad
    for settings in ({}, {"store_z": False}):
        with pytest.raises(
            InputError, match="1 counts are negative or not finite; lda needs counts of words"
        ):
            training(X, **settings).run(1)


def test_a_dataset_without_words_is_refused():
    nothing = Csr(np.zeros(3, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32))
    with pytest.raises(InputError, match="the dataset has no entries"):
        begin(LDA(), nothing, 4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"inference": "gibbs"}, "inference is 'gibbs'; lda has esvi, cvb0, vi, svi"),
        ({"start": "warm"}, "start is 'warm'; lda has cvb0, cold"),
        ({"alpha": 0}, "alpha is 0 but must be > 0"),
        ({"eta": 1e-6}, "eta is 1e-06 but must be at least 0.0001"),
        ({"n_topics": 1}, "n_topics is 1 but must be a whole number from 2"),
        ({"kappa": 0.5}, "kappa is 0.5 but must be above 0.5"),
        ({"learn_priors": True, "inference": "vi"}, "learn_priors goes with inference esvi or cvb0"),
        ({"z_dtype": "int8"}, "z_dtype is 'int8'; lda has float16, float32"),
    ],
)
def test_settings_without_a_meaning_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        training(planted(), **settings)


def test_words_with_very_many_tokens_do_not_break_the_sums():
    X = planted()
    X.data[:] *= 1e5
    run = training(X).run(4)
    assert np.isfinite(run.finals[0].objective)
