"""Whatever workers do, dispatches in flight never conflict, and every task is committed once an epoch."""

import heapq
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oocml.models.protocol import Pass
from oocml.schedule.layout import Layout
from oocml.schedule.nomad import LEAD, Nomad
from oocml.schedule.tasks import conflict, footprint, prerequisites, sub_epochs
from tests.schedule.strategies import SPECS, layouts, seeds

PASSES = [
    Pass("rows and columns", "tiles", "kernel", reads=("row", "col"), writes=("row", "col")),
    Pass("columns", "tiles", "kernel", reads=("row", "col"), writes=("col",)),
    Pass("cells", "tiles", "kernel", reads=("col",), writes=("cell",)),
    Pass("ahead", "tiles", "kernel", reads=("col",), writes=("col", "row", "cell"), ahead=True),
]


def machine(pass_, layout, seed, **options):
    tasks = sorted(task for stratum in sub_epochs(pass_, layout, SPECS, seed) for task in stratum)
    prints = [footprint(pass_, task, layout, SPECS) for task in tasks]
    return Nomad(tasks, prints, seed=seed, **options), tasks, prints


def play(nomad, rng, *, n_workers=3, losses=0.0, stop_after=None):
    """Workers that take, commit and lose at random; yields every event."""
    flying, n_commits = [], 0
    while not nomad.finished and n_commits != stop_after:
        worker = str(rng.randrange(n_workers))
        dispatch = nomad.take(worker) if rng.random() < 0.6 or not flying else None
        if dispatch is not None:
            flying.append(dispatch)
            yield "take", dispatch, list(flying)
            continue
        assert flying, "nothing is in flight and nothing is legal"
        dispatch = flying.pop(rng.randrange(len(flying)))
        if rng.random() < losses:
            nomad.give_back(dispatch)
            continue
        nomad.commit(dispatch)
        n_commits += 1
        yield "commit", dispatch, list(flying)


@given(st.sampled_from(PASSES), layouts(), seeds, st.integers(1, 3), st.sampled_from([0.0, 0.3]))
def test_tasks_in_flight_never_conflict_and_each_is_committed_once_an_epoch(
    pass_, layout, seed, n_epochs, losses
):
    nomad, tasks, prints = machine(pass_, layout, seed, n_epochs=n_epochs)
    before, committed = prerequisites(tasks), []
    for event, dispatch, flying in play(nomad, random.Random(seed), losses=losses):
        index = dispatch.task.index
        if event == "commit":
            committed.append((dispatch.epoch, index))
            continue
        assert all((dispatch.epoch, i) in committed for i in before.get(index, ()))
        assert dispatch.epoch == 0 or (dispatch.epoch - 1, index) in committed
        others = [prints[other.task.index] for other in flying if other is not dispatch]
        assert not any(conflict(prints[index], other) for other in others)
    assert sorted(committed) == [(e, i) for e in range(n_epochs) for i in range(len(tasks))]


@given(layouts(), seeds, st.integers(1, 2))
def test_columns_are_opened_by_their_first_task_and_closed_by_their_last(layout, seed, n_epochs):
    nomad, tasks, _ = machine(PASSES[1], layout, seed, n_epochs=n_epochs)
    seen = {}
    for event, dispatch, _ in play(nomad, random.Random(seed), losses=0.2):
        if event == "commit":
            seen.setdefault((dispatch.epoch, dispatch.task.cols), []).append(dispatch.task)
    for visits in seen.values():
        assert [task.opening for task in visits] == [True] + [False] * (len(visits) - 1)
        assert [task.closing for task in visits] == [False] * (len(visits) - 1) + [True]


@given(st.sampled_from(PASSES), layouts(), seeds, st.integers(0, 20))
def test_a_machine_goes_on_from_what_was_committed(pass_, layout, seed, stop_after):
    nomad, tasks, prints = machine(pass_, layout, seed, n_epochs=2)
    events = play(nomad, random.Random(seed), stop_after=stop_after)
    done = [(dispatch.epoch, dispatch.task.index) for event, dispatch, _ in events if event == "commit"]
    resumed = Nomad(tasks, prints, n_epochs=2, done=done, seed=seed)
    rest = [
        (d.epoch, d.task.index) for event, d, _ in play(resumed, random.Random(seed)) if event == "commit"
    ]
    assert sorted(done + rest) == [(e, i) for e in range(2) for i in range(len(tasks))]


def test_a_worker_keeps_its_column_and_a_slow_one_holds_up_only_what_it_holds():
    layout = square(8)
    nomad, tasks, _ = machine(PASSES[0], layout, 0, n_epochs=3)
    slow = nomad.take("slow")
    mine = []
    while (dispatch := nomad.take("fast")) is not None:
        nomad.commit(dispatch)
        mine.append(dispatch)
    blocked = [t for t in tasks if set(t.rows) & set(slow.task.rows) or t.cols == slow.task.cols]
    assert len(mine) == 3 * (len(tasks) - len(blocked))
    turns = sum(a.task.cols != b.task.cols for a, b in zip(mine, mine[1:], strict=False))
    assert turns == 3 * (7 - 1), "an epoch begins with the column at which the one before it ended"


def square(n):
    bounds = tuple(range(n + 1))
    return Layout(bounds, bounds, bounds, bounds, bounds, (0, n))


def rate(nomad, speeds, *, in_flight=2, trip=0.1):
    """Tasks a unit of time, at last, of workers that compute one at a time; a task takes 1 / speed and a round trip."""
    rng, number = random.Random(0), 0
    ready, ends = dict.fromkeys(speeds, 0.0), []
    flying, committed = dict.fromkeys(speeds, 0), []
    now, whole = 0.0, 12 * len(nomad._tasks) / sum(speeds.values())
    while now < whole and not nomad.finished:
        for worker in sorted(speeds, key=flying.__getitem__) * in_flight:
            dispatch = nomad.take(worker) if flying[worker] < in_flight else None
            if dispatch is not None:
                begins = max(ready[worker], now + trip)
                ready[worker] = begins + rng.uniform(0.9, 1.1) / speeds[worker]
                number, flying[worker] = number + 1, flying[worker] + 1
                heapq.heappush(ends, (ready[worker] + trip / 2, number, worker, dispatch))
        now, _, worker, dispatch = heapq.heappop(ends)
        nomad.commit(dispatch)
        flying[worker] -= 1
        committed.append(now)
    return sum(t > now / 3 for t in committed) / (now * 2 / 3)


@pytest.mark.parametrize(("n_blocks", "share"), [(4, 0.85), (8, 0.95), (12, 0.97)])
def test_a_slow_worker_costs_no_more_than_its_own_share(n_blocks, share):
    nomad, *_ = machine(PASSES[0], square(n_blocks), 0, n_epochs=30)
    assert rate(nomad, {"fast": 1.0, "slow": 0.25}) > share * 1.25


@pytest.mark.parametrize("n_blocks", [4, 5, 8])
def test_no_task_runs_far_ahead_of_another_even_where_all_blocks_are_in_flight(n_blocks):
    nomad, tasks, _ = machine(PASSES[0], square(n_blocks), 0, n_epochs=20)
    rng, done = random.Random(0), dict.fromkeys(range(len(tasks)), 0)
    for event, dispatch, _ in play(nomad, rng, n_workers=n_blocks):
        if event == "take":
            assert dispatch.epoch <= min(done.values()) + LEAD
        else:
            done[dispatch.task.index] += 1
