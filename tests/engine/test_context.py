"""What a process needs to work on a run."""

from __future__ import annotations

import numpy as np
import pytest

from oocml.engine import context
from oocml.engine.context import initial_block
from oocml.models.registry import load_model
from oocml.schedule.layout import Layout, n_blocks
from tests.engine.toys import TOY
from tests.models.test_contract import CASES, Case
from tests.models.tiled import begin


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_initial_blocks_are_the_same_in_however_many_parts_they_are_filled(case: Case, monkeypatch):
    data, model = case.data(), load_model(case.model)
    problem = begin(model, data.X, data.n_cols, data.y, qid=data.qid, **case.settings).problem
    n_cols = model.n_cols(problem)
    every = (0, 1, 2)
    layout = Layout((0, 5, 9), (0, 23, 60), (0, n_cols // 3, n_cols), every, every, (0, 2))

    def blocks() -> list[np.ndarray]:
        return [
            initial_block(spec, layout, problem, index)
            for spec in model.state(problem)
            for index in range(n_blocks(spec, layout))
        ]

    whole = blocks()
    monkeypatch.setattr(context, "INITIAL_BYTES", 13)
    for one, other in zip(whole, blocks(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_settings_that_a_run_was_begun_without_are_at_their_defaults(new_run):
    run = new_run(reference=TOY).run
    settings = dict(run.config["settings"])
    name, given = settings.popitem()
    run.config["settings"] = settings
    assert context.problem_of(run).settings == {**settings, name: given}
