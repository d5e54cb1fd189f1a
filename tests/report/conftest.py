"""Runs to report on, made once."""

import pytest
from report_runs import RunMaker


@pytest.fixture(scope="session")
def clean_record():
    """A run with plain names."""
    return RunMaker().record()
