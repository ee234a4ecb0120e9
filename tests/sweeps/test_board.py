"""What a sweep shows: a line for each job that ends, and on a terminal those that run."""

import io

from rich.console import Console

from rnnlab.sweeps import ledger
from rnnlab.sweeps.board import Board


def shown(tmp_path, is_terminal):
    for job in ("seed=0", "seed=1", "seed=2"):
        ledger.append(tmp_path, job, "queued", overrides=[])
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=is_terminal, width=100, color_system=None, highlight=False)
    with Board(ledger.Story(tmp_path), ["seed=0", "seed=1", "seed=2"], console) as board:
        for job in ("seed=0", "seed=1"):
            ledger.append(tmp_path, job, "started")
        ledger.append(tmp_path, "seed=0", "epoch", epoch=3, epochs=20)
        board.update()
        ledger.append(tmp_path, "seed=1", "failed", error="[no] such file", code=2)
        ledger.append(tmp_path, "seed=0", "finished", seconds=2.04)
    return stream.getvalue()


def test_a_line_for_each_job_that_ends(tmp_path):
    assert shown(tmp_path, False).splitlines() == [
        "1/3  seed=1 failed: [no] such file",
        "2/3  seed=0 finished in 2.0 s",
    ]


def test_a_terminal_shows_the_jobs_that_run(tmp_path):
    text = shown(tmp_path, True)
    assert "2 running, 1 queued" in text and "3/20" in text
    assert "seed=0 finished in 2.0 s" in text
