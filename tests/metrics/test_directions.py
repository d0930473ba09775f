import math

import pytest

from oocml.errors import UsageError
from oocml.metrics.directions import higher_is_better, is_better


@pytest.mark.parametrize(
    ("metric", "higher"),
    [
        ("accuracy", True),
        ("log_loss", False),
        ("rmse", False),
        ("ndcg_at_10", True),
        ("precision_at_1", True),
    ],
)
def test_direction(metric, higher):
    assert higher_is_better(metric) is higher
    assert is_better(metric, 2.0, 1.0) is higher
    assert is_better(metric, 1.0, 2.0) is not higher
    assert not is_better(metric, 1.0, 1.0)


@pytest.mark.parametrize("metric", ["acuracy", "ndcg_at_", "rmse_at_5", ""])
def test_unknown_metric_is_refused_with_the_known_ones(metric):
    with pytest.raises(UsageError, match="known: accuracy"):
        higher_is_better(metric)


def test_nan_is_never_best():
    assert not is_better("log_loss", math.nan, 1.0)
    assert is_better("log_loss", 1.0, math.nan)
    assert not is_better("log_loss", math.nan, math.nan)
