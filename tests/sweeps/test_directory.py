"""What a sweep's directory says of its jobs, whoever died before writing it down."""

from rnnlab.sweeps import directory, ledger


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
