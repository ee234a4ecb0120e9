"""What a sweep's directory says of its jobs, whoever died before writing it down."""

from rnnlab.sweeps import directory, ledger
from rnnlab.sweeps.lock import JOB_LOCK, locked


def test_a_job_that_finished_without_a_word_is_not_run_again(tmp_path):
    for job in ("a", "b"):
        ledger.append(tmp_path, job, "queued", overrides=[])
        ledger.append(tmp_path, job, "started")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "metrics.json").write_text("{}")
    story = ledger.Story(tmp_path)
    directory.settle(tmp_path, story)
    assert (story.state("a"), story.state("b")) == ("finished", "started")
    assert [job.name for job in directory.take_up(story)] == ["b"]
    assert directory.count_states(story, ["a", "b"]) == {"finished": 1, "running": 1}


def test_nobody_tells_the_end_of_a_job_that_another_process_is_at(tmp_path):
    ledger.append(tmp_path, "a", "started")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "metrics.json").write_text("{}")  # which it has just written
    story = ledger.Story(tmp_path)
    with locked(tmp_path / "a", JOB_LOCK):
        assert not directory.note_end(story, "a", "interrupted", reason="killed")
        directory.settle(tmp_path, story)
    assert ledger.Story(tmp_path).state("a") == "started"
    assert directory.note_end(story, "a", "interrupted", reason="killed")
    assert ledger.Story(tmp_path).jobs["a"]["reason"] == "killed"


def test_an_end_is_told_once(tmp_path):
    ledger.append(tmp_path, "a", "started")
    story = ledger.Story(tmp_path)
    ledger.append(tmp_path, "a", "failed", error="by itself")  # after the launcher has looked
    assert directory.note_end(story, "a", "interrupted", reason="killed")
    assert ledger.Story(tmp_path).jobs["a"]["error"] == "by itself"


def test_a_job_that_never_began_may_have_ended(tmp_path):
    ledger.append(tmp_path, "a", "queued", overrides=[])
    assert directory.note_end(ledger.Story(tmp_path), "a", "failed", error="no memory")
    assert ledger.Story(tmp_path).state("a") == "failed"
