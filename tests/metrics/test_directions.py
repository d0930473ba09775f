import math

import pytest

from oocml.errors import UsageError
from oocml.metrics.directions import check_metric_of, higher_is_better, is_better


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


SCORES = ["objective", "n_rows", "accuracy", "ndcg_at_5", "ndcg_at_5_low", "ndcg_at_5_all", "auc_error"]


@pytest.mark.parametrize("metric", ["accuracy", "ndcg_at_5", "objective"])
def test_a_model_is_judged_by_metrics_that_it_has(metric):
    check_metric_of("this", metric, SCORES)


@pytest.mark.parametrize(
    ("metric", "line"),
    [
        ("acc", "this has no metric 'acc' (did you mean accuracy?)"),
        ("Acuracy", "this has no metric 'Acuracy' (did you mean accuracy?)"),
        ("ndcg_at_10", "this has no metric 'ndcg_at_10' (did you mean ndcg_at_5?)"),
        ("rmse", "this has no metric 'rmse'"),
        ("", "this has no metric ''"),
        ("n_rows", "this can't be judged by 'n_rows'"),
        ("auc_error", "this can't be judged by 'auc_error'"),
    ],
)
def test_other_metrics_are_refused_with_those_of_the_model(metric, line):
    with pytest.raises(UsageError) as caught:
        check_metric_of("this", metric, SCORES)
    assert str(caught.value) == f"{line}; it has accuracy, ndcg_at_5, objective"
