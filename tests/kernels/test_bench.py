"""The benchmark refuses to time what is wrong, times every arm in turn, and goes on where it stopped."""

import faulthandler
import json
import time

import pytest
import torch

from rnnlab_kernels.bench import __main__ as bench
from rnnlab_kernels.bench import arms, clock, gate
from rnnlab_kernels.bench.part import Part
from rnnlab_kernels.bench.work import Work, draw, parts, precision
from rnnlab_kernels.schedules.additions import PLAIN
from rnnlab_kernels.schedules.reference import reference
from tests.conftest import INTERPRETING
from tests.covering import few

pytestmark = pytest.mark.skipif(INTERPRETING, reason="times the arms of a CPU")
SMALL = Work("lstm", "fp32", 2, 3, 4, 5)


@pytest.mark.parametrize("cuda", [False, True])
def test_every_part_has_works_whose_tensors_can_be_drawn(cuda):
    for works in parts(cuda).values():
        for work in works:
            given = draw(work.checked()[0])
            assert given.inputs().shape[:2] == (work.checked()[0].T, work.checked()[0].B)
            assert all(leaf.isfinite().all() for leaf in given.leaves())


@pytest.mark.parametrize("cuda", [False, True])
def test_no_row_is_in_two_parts(cuda):
    works = [work for part in parts(cuda).values() for work in part]
    assert len(works) == len(set(works))


def test_features_are_those_asked_for():
    found = {(work.cell, work.feature) for work in parts(True)["features"]}
    cells = ("peephole_lstm", "cifg", "gru_reset_before", "layer_norm_lstm", "layer_norm_gru", "layer_norm_rnn_tanh")
    features = ("zoneout", "recurrent dropout", "candidate dropout", "resets")
    assert {(cell, "") for cell in cells} | {("lstm", feature) for feature in features} <= found


@pytest.mark.parametrize(
    "work",
    few(
        [
            SMALL,
            SMALL._replace(cell="gru", layers=2, bidirectional=True),
            SMALL._replace(ragged=True),
            SMALL._replace(recurrence=True),
            SMALL._replace(cell="layer_norm_lstm", recurrence=True),
            SMALL._replace(feature="zoneout"),
            SMALL._replace(feature="candidate dropout"),
            SMALL._replace(feature="resets", T=9),
            SMALL._replace(cell="cifg"),
            SMALL._replace(cell="gru_reset_before"),
            SMALL._replace(cell="layer_norm_gru", recurrence=True),
            SMALL._replace(cell="layer_norm_rnn_tanh"),
            SMALL._replace(layers=2, training=True),
        ],
        [SMALL, SMALL._replace(ragged=True)],
    ),
    ids=lambda work: work.words(),
)
def test_arms_agree(work):
    found = gate.check(work, "cpu")
    assert {"loop", "eager"} <= found.keys() and not any(verdict.wrong for verdict in found.values())
    assert ("torch.nn" in found) == (work.cell in ("lstm", "gru") and not work.recurrence and not work.feature)


def test_what_rows_share_is_checked_once():
    seen, names = {}, []
    for hidden in (70, 80):
        gate.check(SMALL._replace(H=hidden), "cpu", (), names.append, seen)
    # The small size of both is the same; each has its own.
    assert len(seen) == 3 and names.count("loop") == 3


def test_resets_are_drawn_and_change_the_output():
    work = SMALL._replace(feature="resets", T=50)
    given = draw(work)
    assert given.additions.reset is not None and given.additions.reset.any() and not given.additions.reset.all()
    run = arms.network(reference, work, given)
    assert not torch.equal(run(), arms.network(reference, work, given._replace(additions=PLAIN))())


def test_a_recurrence_is_not_torchs_and_says_why():
    with pytest.raises(arms.Unavailable, match="makes the input product"):
        arms.build("torch.nn", SMALL._replace(recurrence=True), draw(SMALL._replace(recurrence=True)))
    with pytest.raises(arms.Unavailable, match="no such layer"):
        arms.build("torch.nn", SMALL._replace(feature="zoneout"), draw(SMALL))


def test_a_training_step_is_adams_of_the_loss():
    work = SMALL._replace(layers=2, training=True)
    given, other = (draw(work).to(torch.float32, "cpu") for _ in range(2))
    run, _ = arms.build("eager", work, given)
    torch_run, _ = arms.build("torch.nn", work, other)
    passes, expected = clock.passes(run, given), torch.optim.Adam(other.leaves(), lr=1e-4)
    losses = []
    for _ in range(3):
        passes["training step"]()
        expected.zero_grad()
        torch_run().backward()
        expected.step()
        losses.append(float(run().detach()))
    assert losses[0] > losses[1] > losses[2]
    for (name, mine), theirs in zip(given.named_leaves().items(), other.leaves(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-5, msg=name)


def test_an_arm_that_fails_when_it_is_timed_costs_the_others_nothing():
    calls, failed = [], {}

    def forgetful():
        calls.append(1)
        if len(calls) > 6:
            raise MemoryError("out of memory")

    found = clock.measure({"good": lambda: None, "bad": forgetful}, 3, False, failed=failed)
    assert found.keys() == {"good"} and failed == {"bad": "MemoryError: out of memory"}


def test_when_the_gpu_is_lost_the_next_run_knows_in_which_arm(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda *_, **__: None)

    def lost(work, device, rounds, part):
        part.note(work, "sequence")
        raise arms.DeviceLost("sequence took the GPU with it: illegal address")

    monkeypatch.setattr(bench, "measure_row", lost)
    monkeypatch.setattr(bench, "Part", lambda *given: Part(*given[:3], watch=True))
    monkeypatch.setattr(bench, "parts", lambda cuda: {"lstm": [SMALL]})
    assert bench.main(["--out", str(tmp_path), "--device", "cpu"]) == 1
    assert "took the GPU with it: illegal address; the same command goes on" in capsys.readouterr().err
    assert Part("lstm", tmp_path, {}, watch=True).without(SMALL).keys() == {"sequence"}


def test_a_row_that_fails_costs_the_others_nothing(monkeypatch, tmp_path, capsys):
    measure_row = bench.measure_row

    def failing(work, *given):
        if work.H == 9:
            raise MemoryError("no memory for the tensors")
        return measure_row(work, *given)

    monkeypatch.setattr(bench, "measure_row", failing)
    monkeypatch.setattr(bench, "parts", lambda cuda: {"lstm": [SMALL._replace(H=9), SMALL]})
    assert bench.main(["--out", str(tmp_path), "--device", "cpu", "--rounds", "3"]) == 1
    assert "no memory for the tensors" in capsys.readouterr().err
    assert [row["work"]["H"] for row in json.loads((tmp_path / "lstm.json").read_text())["rows"]] == [5]


def test_an_interrupted_run_suspects_nobody(monkeypatch, tmp_path):
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda *_, **__: None)

    def interrupted(work, device, rounds, part):
        part.note(work, "sequence")
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "measure_row", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bench.run_rows([(Part("lstm", tmp_path, {}, watch=True), SMALL)], "cpu", 3, time.monotonic() + 60)
    assert not list(tmp_path.iterdir())


def test_micro_measurements_are_written_once_and_not_tried_again_where_they_hung(monkeypatch, tmp_path, capsys):
    pytest.importorskip("triton")
    from rnnlab_kernels.bench import micro

    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda *_, **__: None)

    found = {"barrier us": {"8": 1.0}, "stale values": {"in a million steps": 3}}
    monkeypatch.setattr(micro, "measure", lambda: {**found, "failed": {"capture": "no"}})
    assert not bench._micro(tmp_path, {"device": "H200"}, True, True)
    assert json.loads((tmp_path / "micro.json").read_text())["barrier us"] == {"8": 1.0}
    text = capsys.readouterr().err
    assert "micro: capture: no" in text and "3 stale values" in text and bench._micro(tmp_path, {}, True, True)
    (tmp_path / "micro.json").unlink()
    (tmp_path / "micro.running").write_text("{}")
    assert not bench._micro(tmp_path, {}, True, True) and not (tmp_path / "micro.json").exists()


def test_an_arm_that_fails_later_is_wrong(monkeypatch):
    def tired(work, given):
        run, calls = arms.ARMS["loop"](work, given), []

        def once():
            if calls:
                raise MemoryError("out of memory")
            calls.append(1)
            return run()

        return once

    monkeypatch.setitem(arms.ARMS, "fused", tired)
    assert gate.check(SMALL, "cpu")["fused"].wrong.startswith("a later call: MemoryError: out of memory")


def test_loops_are_timed_where_features_are():
    works = [work for part in parts(True).values() for work in part]
    loops = [work for work in works if not arms.untimed("loop", work, True)]
    assert {*parts(True)["features"]} <= {*loops} and len(loops) < len(works) / 4
    assert not any(arms.untimed("sequence", work, True) for work in works)
    assert not any(arms.untimed("loop", work, False) for work in works)


def test_slow_arms_have_fewer_turns(monkeypatch):
    turns = []
    monkeypatch.setattr(clock, "BUDGET_MS", 1.0)
    found = clock.measure({"slow": lambda: turns.append(time.sleep(0.002))}, 9, False)
    assert len(turns) < 40 and found["slow"].median >= 2.0


@pytest.mark.slow
def test_an_arm_in_which_a_run_was_killed_is_left_out_of_its_row(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda *_, **__: None)
    part = Part("lstm", tmp_path, {}, watch=True)
    part.note(SMALL, "eager")
    again = Part("lstm", tmp_path, {}, watch=True)
    assert again.without(SMALL) == {"eager": "was running when an earlier run was cut short"}
    assert again.without(SMALL._replace(H=9)) == {} and "eager was running" in capsys.readouterr().out
    assert Part("lstm", tmp_path, {}, watch=True).without(SMALL).keys() == {"eager"}
    row = bench.measure_row(SMALL, "cpu", 3, again)
    assert "eager" in row["left out"] and "eager" not in row["times"]["forward"] and "loop" in row["times"]["forward"]
    again.done()
    assert not list(tmp_path.glob("*.running"))


def test_the_most_telling_rows_of_each_part_come_first(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(
        bench, "measure_row", lambda work, *_: seen.append(work.H) or {"times": {}, "wrong": {}, "left out": {}}
    )
    rows = {"lstm": [SMALL._replace(H=k) for k in (1, 2, 3, 4)], "gru": [SMALL._replace(H=k) for k in (5, 6, 7, 8)]}
    rows["short"] = [SMALL._replace(H=9)]
    monkeypatch.setattr(bench, "parts", lambda cuda: rows)
    assert bench.main(["--out", str(tmp_path), "--device", "cpu"]) == 1  # nothing was timed
    assert seen == [1, 2, 3, 5, 6, 7, 4, 8, 9]


def test_a_wrong_arm_has_no_numbers(monkeypatch, tmp_path, capsys):
    def wrong(work, given):
        run = arms.ARMS["loop"](work, given)
        return lambda: 1.01 * run()

    monkeypatch.setitem(arms.ARMS, "eager", wrong)
    monkeypatch.setattr(bench, "parts", lambda cuda: {"lstm": [SMALL]})
    assert bench.main(["--out", str(tmp_path), "--rounds", "3"]) == 1
    (row,) = json.loads((tmp_path / "lstm.json").read_text())["rows"]
    assert "eager" in row["wrong"] and row["left out"]["eager"].startswith("wrong in output")
    assert "eager" not in row["error"] and not any("eager" in times for times in row["times"].values())
    assert "loop" in row["times"]["forward + backward"]
    assert "eager is wrong in output" in capsys.readouterr().err
    assert "Wrong: lstm, fp32 (5), eager: output" in (tmp_path / "README.md").read_text()


def test_without_the_plain_loop_there_is_no_row(monkeypatch, tmp_path, capsys):
    def broken(work, given):
        raise RuntimeError("no loop")

    monkeypatch.setitem(arms.ARMS, "loop", broken)
    monkeypatch.setattr(bench, "parts", lambda cuda: {"lstm": [SMALL]})
    assert bench.main(["--out", str(tmp_path), "--device", "cpu"]) == 1
    assert not (tmp_path / "lstm.json").exists() and "nothing was timed" in capsys.readouterr().err


def test_an_arm_that_fails_is_left_out(monkeypatch):
    def broken(work, given):
        raise RuntimeError("no such device\nand more")

    monkeypatch.setitem(arms.ARMS, "fused", broken)
    with pytest.raises(arms.Unavailable, match="RuntimeError: no such device$"):
        arms.build("fused", SMALL, draw(SMALL).to(torch.float32, "cpu"))


@pytest.mark.slow
def test_rows_are_written_once_and_reported(monkeypatch, tmp_path, capsys):
    out = ["--out", str(tmp_path), "--rounds", "3"]
    monkeypatch.setattr(bench, "parts", lambda cuda: {"lstm": [SMALL], "tf32": []})
    assert bench.main(out) == 0
    monkeypatch.setattr(bench, "parts", lambda cuda: {"lstm": [SMALL, SMALL._replace(H=9)], "tf32": []})
    assert bench.main([*out, "--seconds", "0"]) == 0
    text = capsys.readouterr().out
    assert "lstm: 1 rows are there" in text and "time is over, 1 rows to do" in text
    assert bench.main(out) == 0
    part = json.loads((tmp_path / "lstm.json").read_text())
    assert len(part["rows"]) == 2 and {"torch", "commit", "device"} <= part["about"].keys()
    median, p20, p80, peak = part["rows"][0]["times"]["forward + backward"]["eager"]
    assert 0 < p20 <= median <= p80 and peak is None and part["rows"][0]["first ms"]["eager"] > 0
    assert "sequence" in part["rows"][0]["left out"]
    text = (tmp_path / "README.md").read_text()
    assert "| lstm, fp32 | 2, 3, 4, 9 | forward | eager |" in text
    capsys.readouterr()
    assert bench.main([*out, "--part", "tf32"]) == 0 and "nothing to measure on a CPU" in capsys.readouterr().out
    assert bench.main(["--out", str(tmp_path), "--rounds", "4"]) == 1
    assert "of another kind (rounds 3 then, 4 now)" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(
    ("arguments", "message"), [(["--device", "cuda"], "no CUDA GPU here"), (["--rounds", "2"], "at least 3")]
)
def test_nothing_is_written_without_what_was_asked_for(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit):
        bench.main(["--out", str(tmp_path / "results"), *arguments])
    assert message in capsys.readouterr().err and not (tmp_path / "results").exists()


def test_precision_is_put_back():
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    with precision(SMALL._replace(tf32=True)):
        assert torch.backends.cuda.matmul.allow_tf32 and torch.backends.cudnn.allow_tf32
    assert before == (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
