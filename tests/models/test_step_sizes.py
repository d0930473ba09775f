import numpy as np
import pytest

from oocml.models.protocol import Epoch, Epochs, Pass, Verdict
from oocml.models.step_sizes import KINDS, epochs, learning_rates

PASS = Pass("visit", "tiles", "visit", params={"l2": 0.5})


def epoch_of(number, parts, rate):
    return Epoch(number, parts["loss"], extra={"learning_rate": rate})


def test_shapes_of_the_schedules():
    t = np.arange(1, 4)
    np.testing.assert_allclose(learning_rates("constant", 0.4, 3), 0.4)
    np.testing.assert_allclose(learning_rates("adagrad", 0.3, 3), [0.3, 0.2, 0.1])
    np.testing.assert_allclose(learning_rates("inverse_sqrt", 0.4, 3), 0.4 / np.sqrt(t))
    np.testing.assert_allclose(learning_rates("nomad", 0.4, 3), 0.6 / (1 + 0.05 * t**1.5))
    assert all(len(learning_rates(kind, 1.0, 0)) == 0 for kind in KINDS)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "bold_driver"])
def test_epochs_whose_steps_are_known_are_one_item(kind):
    program = epochs(PASS, kind, 0.3, 7, 3, epoch_of)
    item = next(program)
    assert isinstance(item, Epochs)
    assert [params["learning_rate"] for params in item.params] == learning_rates(kind, 0.3, 3)
    ended = item.ends(1, {"loss": 2.0})
    assert (ended.number, ended.objective) == (9, 2.0)
    assert ended.extra["learning_rate"] == learning_rates(kind, 0.3, 3)[1]
    with pytest.raises(StopIteration) as stopped:
        program.send([{}, {}])
    assert stopped.value.value == 2


def test_the_bold_driver_looks_at_each_epoch():
    program, rates = epochs(PASS, "bold_driver", 0.4, 2, 9, epoch_of), []
    item = next(program)
    for loss in (5.0, 4.0, 6.0, 6.0):
        rates.append(item.params["learning_rate"])
        assert item.params["l2"] == 0.5
        assert program.send({"loss": loss}).objective == loss
        item = program.send(Verdict(False))
    np.testing.assert_allclose(rates, [0.4, 0.42, 0.441, 0.2205])


def test_the_bold_driver_stops_where_it_is_told():
    program = epochs(PASS, "bold_driver", 0.4, 0, 4, epoch_of)
    next(program)
    program.send({"loss": 1.0})
    with pytest.raises(StopIteration) as stopped:
        program.send(Verdict(True))
    assert stopped.value.value == 1
