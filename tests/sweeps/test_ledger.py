"""No line is lost, whoever writes and whoever dies."""

import json
import multiprocessing
import os

import pytest

from rnnlab.sweeps import ledger

WRITERS, LINES = 40, 25  # 1,000 writers: experiments/014_cluster/ledger.py


def write_lines(sweep_dir, writer):
    for number in range(LINES):
        ledger.append(sweep_dir, f"job{writer}", "epoch", epoch=number, text="ä" * (writer * 7 % 90))


def test_lines_come_back_with_who_wrote_them(tmp_path):
    ledger.append(tmp_path, "seed=0", "queued", overrides=["seed=0"])
    ledger.append(tmp_path, "seed=0", "failed", error="größer als 1", code=2)
    first, second = ledger.read(tmp_path)[0]
    assert first["overrides"] == ["seed=0"] and second["error"] == "größer als 1"
    assert second["pid"] == os.getpid() and {"time", "host"} <= first.keys()


def test_many_writers_lose_no_line(tmp_path):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write_lines, args=(tmp_path, writer)) for writer in range(WRITERS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    lines, _ = ledger.read(tmp_path)
    assert len((tmp_path / ledger.LEDGER).read_bytes().splitlines()) == len(lines) == WRITERS * LINES
    for writer in range(WRITERS):
        assert [line["epoch"] for line in lines if line["job"] == f"job{writer}"] == list(range(LINES))


@pytest.mark.parametrize(
    "torn", [b'{"time": "2026', b'{"job": "a", "state": "\xc3', b"\x00\x00", b"[]", b'{"job": "a"}']
)
def test_what_a_killed_writer_left_costs_no_other_line(tmp_path, torn):
    ledger.append(tmp_path, "a", "queued")
    with (tmp_path / ledger.LEDGER).open("ab") as file:
        file.write(torn)
    before, end = ledger.read(tmp_path)
    ledger.append(tmp_path, "b", "queued")
    assert [line["job"] for line in before] == ["a"]
    assert [line["job"] for line in ledger.read(tmp_path)[0]] == ["a", "b"]
    assert [line["job"] for line in ledger.read(tmp_path, end)[0]] == ["b"]


def test_a_line_that_is_being_written_is_read_when_it_is_whole(tmp_path):
    story = ledger.Story(tmp_path)
    text = json.dumps({"job": "a", "state": "started"}).encode() + b"\n"
    with (tmp_path / ledger.LEDGER).open("ab", buffering=0) as file:
        file.write(text[:9])
        assert story.update() == []
        file.write(text[9:])
    assert [line["job"] for line in story.update()] == ["a"] and story.update() == []


def test_a_story_keeps_what_each_line_said(tmp_path):
    ledger.append(tmp_path, "a", "queued", overrides=["seed=0"])
    for state in ("started", "interrupted", "started", "finished"):
        ledger.append(tmp_path, "a", state)
    story = ledger.Story(tmp_path)
    assert story.jobs["a"]["overrides"] == ["seed=0"] and story.attempts == {"a": 2}
    assert story.state("a") == "finished" and story.state("b") is None


def test_a_story_forgets_why_a_former_attempt_failed(tmp_path):
    ledger.append(tmp_path, "a", "failed", error="no memory", code=1)
    ledger.append(tmp_path, "a", "started")
    ledger.append(tmp_path, "a", "interrupted", reason="SIGTERM")
    line = ledger.Story(tmp_path).jobs["a"]
    assert line["reason"] == "SIGTERM" and "error" not in line and "code" not in line
