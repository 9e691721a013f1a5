"""What the tests of dataset readers share."""

import pytest


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """A cache of the test's own."""
    monkeypatch.setenv("FEDSIGN_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def nodes():
    """Composed configs, since composing one takes longer than a test."""
    return {}
