"""Runs to report on, made once."""

import pytest
from report_runs import RunMaker


@pytest.fixture(scope="session")
def clean_record():
    """A run with plain names."""
    return RunMaker().record()


@pytest.fixture(scope="session")
def seeds_record():
    """The same run, trained twice."""
    return RunMaker(seeds=(0, 1)).record()
