"""One directory a run, whoever else starts one at the same moment."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Barrier

import pytest
import yaml

from rnnlab.cli import rundir
from rnnlab.cli.errors import UsageError


def config(root, run_dir=None):
    return {"name": "addition/lstm", "paths": {"root": str(root), "run_dir": run_dir and str(run_dir)}}


def claim_together(configs):
    """Enter as many claims at the same moment as there are configurations; return directories and refusals."""
    barrier = Barrier(len(configs))

    def claim(given):
        barrier.wait()
        try:
            return stack.enter_context(rundir.claim(given))
        except UsageError as error:
            return error

    with ExitStack() as stack, ThreadPoolExecutor(len(configs)) as pool:
        return list(pool.map(claim, configs))


def test_default_names_are_never_shared(tmp_path):
    found = claim_together([config(tmp_path)] * 8)
    assert len(set(found)) == 8
    assert all(yaml.safe_load((run_dir / "config.yaml").read_text()) == config(tmp_path) for run_dir in found)


@pytest.mark.parametrize("exists", [False, True])
def test_one_process_gets_a_given_directory(exists, tmp_path):
    run_dir = tmp_path / "a" / "run"
    if exists:
        run_dir.mkdir(parents=True)
    found = claim_together([config(tmp_path, run_dir)] * 8)
    assert found.count(run_dir) == 1
    refusals = [result for result in found if result != run_dir]
    assert all("is not empty" in str(error) or "another process is training" in str(error) for error in refusals)


def test_a_failed_run_takes_back_what_it_made_and_no_more(tmp_path):
    (tmp_path / "mine").mkdir()
    for given in (tmp_path / "mine", tmp_path / "a" / "b", None):
        with pytest.raises(KeyError), rundir.claim(config(tmp_path, given)) as run_dir:
            assert (run_dir / "config.yaml").exists()
            raise KeyError
    assert [path.name for path in tmp_path.rglob("*")] == ["mine"]
