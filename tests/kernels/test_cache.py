"""Triton's cache goes to the node's disk on clusters, and warming up fills it."""

import tempfile
from pathlib import Path

import pytest
import torch

from rnnlab_kernels import warmup
from rnnlab_kernels.cache import cache_folder, use_node_local_cache
from tests.conftest import INTERPRETING


def test_elsewhere_the_default_stays():
    environment: dict[str, str] = {}
    assert use_node_local_cache(environment) == Path.home() / ".triton" / "cache" and not environment


@pytest.mark.parametrize("job", ["SLURM_JOB_ID", "PBS_JOBID"])
def test_on_a_cluster_it_is_the_nodes_own(job):
    environment = {job: "17"}
    folder = use_node_local_cache(environment)
    assert folder.parent == Path(tempfile.gettempdir()) and environment["TRITON_CACHE_DIR"] == str(folder)
    assert cache_folder({job: "17", "SLURM_TMPDIR": "/scratch/17"})[0].parent == Path("/scratch/17")
    assert cache_folder({job: "17", "SLURM_TMPDIR": ""})[0] == folder
    assert job in cache_folder({job: "17"})[1]


def test_a_disk_that_cannot_be_written_is_not_insisted_on():
    environment = {"SLURM_JOB_ID": "17", "SLURM_TMPDIR": "/proc/no"}
    use_node_local_cache(environment)
    assert "TRITON_CACHE_DIR" not in environment


def test_a_user_without_a_home(monkeypatch):
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    assert use_node_local_cache({}) is None and "no home" in cache_folder({})[1]


def test_what_somebody_set_stays():
    environment = {"SLURM_JOB_ID": "17", "TRITON_CACHE_DIR": "/mine"}
    assert use_node_local_cache(environment) == Path("/mine") and environment["TRITON_CACHE_DIR"] == "/mine"
    environment = {"SLURM_JOB_ID": "17", "TRITON_HOME": "/mine"}
    assert use_node_local_cache(environment) == Path("/mine/.triton/cache") and "TRITON_CACHE_DIR" not in environment


@pytest.mark.skipif(INTERPRETING or torch.cuda.is_available(), reason="a machine without a GPU")
def test_warming_up_needs_a_gpu(capsys):
    with pytest.raises(SystemExit):
        warmup.main(["--cell", "lstm", "--size", "4", "16"])
    assert "no CUDA GPU here" in capsys.readouterr().err


@pytest.mark.interpret
def test_warming_up_runs_every_schedule(capsys):
    assert warmup.main(["--cell", "lstm", "--cell", "peephole_lstm", "--size", "3", "16"]) == 0
    out = capsys.readouterr().out
    assert "lstm, fp32 3x16 sequence: " in out and "6 compiled or found in" in out
