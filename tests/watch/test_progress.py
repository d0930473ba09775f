import io
import itertools
from dataclasses import replace

import pytest

from oocml.engine.events import EpochDone, TaskDone
from oocml.watch.plain import PlainLines
from oocml.watch.progress import ProgressBar, Rates, console


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_and_anything_else_plain_lines():
    assert isinstance(console(Terminal()), ProgressBar)
    assert isinstance(console(io.StringIO()), PlainLines)


def test_bar_ends_full_and_shows_rates_objective_and_every_epoch(recorded):
    stream = Terminal()
    ticks = itertools.count()
    bar = ProgressBar(stream, clock=lambda: float(next(ticks)))
    for event in recorded[:-1]:
        bar(event)
    assert bar._bar.n == bar._bar.total == 36
    shown = bar._postfix(bar._run)
    bar(recorded[-1])
    # A task a second: 20,000 updates, 6000 / 12 non-zeros, 1 kB read.
    assert "20.0k updates/s" in shown
    assert "500 nnz/s" in shown
    assert "36.0 visits" in shown
    assert "objective 0.5" in shown
    text = stream.getvalue()
    for line in ("epoch 1/3  6.0 s  objective 1.25  valid accuracy 0.6  (best)", "tcp://127.0.0.1:4002 lost"):
        assert line in text
    assert 'peak_memory="512 MiB"' in text


def test_of_many_scores_only_the_one_compared_is_on_the_line(recorded):
    stream = Terminal()
    bar = ProgressBar(stream)
    bar(replace(recorded[0], metric="log_loss"))
    epoch = next(event for event in recorded if isinstance(event, EpochDone))
    bar(replace(epoch, valid={"accuracy": 0.5, "log_loss": 0.25}))
    bar.close()
    assert "valid log_loss 0.25  (best)" in stream.getvalue()
    assert "accuracy" not in stream.getvalue()


def test_passes_beyond_the_plan_do_not_run_past_their_epoch(recorded):
    bar = ProgressBar(Terminal())
    bar(recorded[0])
    task = next(event for event in recorded if isinstance(event, TaskDone))
    for _ in range(40):
        bar(task)
    assert bar._bar.n == 11
    bar.close()


def test_a_resumed_run_starts_where_it_stopped(recorded):
    bar = ProgressBar(Terminal())
    bar(replace(recorded[0], resumed_from=2))
    assert bar._bar.n == 24
    bar.close()


def test_rates_are_means_over_the_window(recorded):
    task = next(event for event in recorded if isinstance(event, TaskDone))
    rates = Rates(window_s=10)
    assert rates.per_second() is None
    rates.add(0.0, task)
    assert rates.per_second() is None
    for now in range(1, 200):
        rates.add(float(now), task)
    assert rates.per_second().updates == pytest.approx(20_000)
    rates.add(1000.0, task)
    assert rates.per_second().tasks == pytest.approx(1 / 801)
