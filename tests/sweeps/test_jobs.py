"""What jobs are called, and how a machine is shared out between them."""

import pytest

from rnnlab.cli.sweeping import expand
from rnnlab.sweeps import local
from rnnlab.sweeps.local import Local


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["seed=0,1", "logger=csv"], ["seed=0", "seed=1"]),
        (["experiment=addition/lstm,addition/gru"], ["experiment=addition-lstm", "experiment=addition-gru"]),
        (["+rnn.zoneout=0.1,0.2"], ["rnn.zoneout=0.1", "rnn.zoneout=0.2"]),
        (["a=x,y", "b=range(2)"], ["a=x,b=0", "a=x,b=1", "a=y,b=0", "a=y,b=1"]),
        (["data.path='a b','../c'"], ["data.path=-a-b", "data.path=-..-c"]),
        (["seed=0,1", "seed=2,3"], ["seed=2", "seed=3"]),
        (["seed=0"], ["run"]),
        (["callbacks=[a,b],[c]"], ["callbacks=-a,b", "callbacks=-c"]),
    ],
)
def test_names_tell_what_sets_jobs_apart(words, expected):
    assert [job.name for job in expand(words)] == expected


def test_long_names_and_names_alike_stay_apart():
    jobs = expand([f"data.path={'x' * 200}/a,{'x' * 200}/b", "tags=[a/b],[a b]"])
    assert len({job.name for job in jobs}) == 4 and max(len(job.name) for job in jobs) <= 100


def test_jobs_keep_all_words_and_the_last_of_a_key():
    (job,) = expand(["logger=csv", "seed=1", "~callbacks.samples", "+trainer.max_steps=3", "seed=2"])
    assert job.overrides == ["logger=csv", "seed=2", "~callbacks.samples", "+trainer.max_steps=3"]


def test_cores_are_divided_unless_the_user_says_how(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert [Local(count).threads() for count in (1, 2, 3, 8, 20)] == [None, 4, 2, 1, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert Local(4).threads() is None


def test_each_job_has_a_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert local.Local().max_jobs == 2
    launcher = Local(4)
    assert [launcher._place(slot)[1]["CUDA_VISIBLE_DEVICES"] for slot in range(4)] == ["2", "5", "2", "5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert local.Local().max_jobs == 1
