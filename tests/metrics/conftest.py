import jaxtyping
import pytest


@pytest.fixture
def as_users_run_it(monkeypatch):
    """Without the shape checks of the tests, which cost fifty times a metric of a few samples."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
