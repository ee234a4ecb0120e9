"""A SLURM for the tests that need one, and only where one can be started."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.slurm import Slurm
from tests.cluster.story import Story


@pytest.fixture(scope="session")
def _cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    running = Slurm(tmp_path_factory.mktemp("slurm"))
    try:
        running.__enter__()
    except RuntimeError as error:  # a machine that has the programs, but not what they need
        pytest.skip(str(error))
    try:
        yield running
    finally:
        running.__exit__(None, None, None)


@pytest.fixture
def slurm(_cluster: Slurm) -> Iterator[Slurm]:
    """A SLURM without jobs, whatever became of those of the test before."""
    yield _cluster
    _cluster.clear()


@pytest.fixture
def story(slurm: Slurm, tmp_path: Path) -> Iterator[Story]:
    with Story(slurm, tmp_path) as begun:
        yield begun
