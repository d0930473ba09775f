"""Settings every test shares: hypothesis profiles and the real data beside a checkout."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "default", max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.register_profile("ci", parent=settings.get_profile("default"), max_examples=50)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def _any_dashboard_port() -> Iterator[None]:
    """Sessions and trainings side by side must not want the same port: Dask leaves a socket open where it gives way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("oocml.engine.cluster.DASHBOARD_PORT", 0)
        yield


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Return the path of a real file or folder, for instance ``shared_data("news20/train.svm.gz")``.

    The test is skipped where ``../shared/data`` does not hold it: that folder is not part of a clone.
    """

    def find(name: str) -> Path:
        path = SHARED_DATA / name
        if not path.exists():
            pytest.skip(f"no ../shared/data/{name} beside this checkout")
        return path

    return find
