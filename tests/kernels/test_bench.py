"""The benchmark refuses to time what is wrong, times every arm in turn, and goes on where it stopped."""

import json

import pytest
import torch

from rnnlab_kernels.bench import __main__ as bench
from rnnlab_kernels.bench import arms, gate
from rnnlab_kernels.bench.work import Work, draw, parts, precision
from tests.conftest import INTERPRETING

pytestmark = pytest.mark.skipif(INTERPRETING, reason="times the arms of a CPU")
SMALL = Work("lstm", "fp32", 2, 3, 4, 5)


@pytest.mark.parametrize("cuda", [False, True])
def test_every_part_has_works_whose_tensors_can_be_drawn(cuda):
    for works in parts(cuda).values():
        for work in works:
            given = draw(work.checked()[0])
            assert given.upstream.shape[0] == given.x.shape[0] and all(leaf.isfinite().all() for leaf in given.leaves())


@pytest.mark.parametrize(
    "work",
    [
        SMALL,
        SMALL._replace(cell="gru", layers=2, bidirectional=True),
        SMALL._replace(ragged=True),
        SMALL._replace(recurrence=True),
        SMALL._replace(cell="layer_norm_lstm", recurrence=True),
        SMALL._replace(feature="zoneout"),
    ],
    ids=lambda work: work.words(),
)
def test_arms_agree(work):
    found = gate.check(work, "cpu")
    assert {"loop", "eager"} <= found.keys() and not any(verdict.wrong for verdict in found.values())
    assert ("torch.nn" in found) == (work.cell != "layer_norm_lstm" and not work.recurrence and not work.feature)


def test_a_wrong_arm_has_no_numbers(monkeypatch, tmp_path, capsys):
    def wrong(work, given):
        run = arms.ARMS["loop"](work, given)
        return lambda: 1.01 * run()

    monkeypatch.setitem(arms.ARMS, "eager", wrong)
    monkeypatch.setattr(bench, "parts", lambda cuda: {"lstm": [SMALL]})
    assert bench.main(["--out", str(tmp_path), "--rounds", "3"]) == 1
    assert not (tmp_path / "lstm.json").exists()
    assert "eager is wrong in output" in capsys.readouterr().err


def test_an_arm_that_fails_is_left_out(monkeypatch):
    def broken(work, given):
        raise RuntimeError("no such device\nand more")

    monkeypatch.setitem(arms.ARMS, "fused", broken)
    with pytest.raises(arms.Unavailable, match="RuntimeError: no such device$"):
        arms.build("fused", SMALL, draw(SMALL).to(torch.float32, "cpu"))


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
