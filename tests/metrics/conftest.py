import jaxtyping
import pytest
from hypothesis import settings

# A busy machine is no failure.
settings.register_profile("metrics", deadline=None)
settings.load_profile("metrics")


@pytest.fixture
def as_users_run_it(monkeypatch):
    """Without the shape checks of the tests, which cost fifty times a metric of a few samples."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
