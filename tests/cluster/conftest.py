"""A SLURM for the tests that need one, and only where one can be started."""

from collections.abc import Iterator

import pytest

from tests.cluster.slurm import Slurm


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    running = Slurm(tmp_path_factory.mktemp("slurm"))
    try:
        running.__enter__()
    except RuntimeError as error:  # a machine that has the programs, but not what they need
        pytest.skip(str(error))
    try:
        yield running
    finally:
        running.__exit__(None, None, None)
