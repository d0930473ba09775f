from __future__ import annotations

import faulthandler
from pathlib import Path

import pytest

from tests.engine.toys import TOY, write_dataset
from tests.faults.torture import Job


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A training of the toy whose tasks last long enough to be killed."""
    data = write_dataset(tmp_path / "toy.zarr", (6, 7, 5, 8, 6, 9))
    options = {"row_blocks": 4, "col_blocks": 4, "settings": {"sleep": 0.05}}
    return Job(TOY, str(data), tmp_path, 4, options)


@pytest.fixture(autouse=True)
def _long_is_not_stuck(request: pytest.FixtureRequest) -> None:
    """Long tests have their own timeout; pytest need not print every stack after two minutes."""
    if request.node.get_closest_marker("long"):
        faulthandler.cancel_dump_traceback_later()
