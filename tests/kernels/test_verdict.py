"""experiments/004_kernels: what verdict.py and figure.py make of results, made up here."""

import importlib.util
import json
from pathlib import Path

import pytest

from rnnlab_kernels.bench.work import Work

FOLDER = Path(__file__).parents[2] / "experiments" / "004_kernels"
LSTM = Work("lstm", "fp16", 64, 512, 512, 512)


def script(name):
    spec = importlib.util.spec_from_file_location(f"kernels_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


verdict, figure = script("verdict"), script("figure")


def row(work, both, forward=None, training=None, error=None, wrong=None, peak=None, **more):
    """A row with these medians by arm."""
    kinds = {"forward + backward": both, "forward": forward or {}, "training step": training or {}}
    times = {
        kind: {arm: [ms, 0.9 * ms, 1.1 * ms, (peak or {}).get(arm)] for arm, ms in arms.items()}
        for kind, arms in kinds.items()
    }
    asked = {**work._asdict(), **more}
    return {"work": asked, "words": work.words(), "times": times, "error": error or {}, "wrong": wrong or {}}


def result_of(rows, title, planned=()):
    found = next(bar for bar in verdict.bars(rows, [work._asdict() for work in planned]) if title in bar.title)
    return found.result(), [finding.words for finding in found.findings]


def test_nothing_is_measured_without_rows(tmp_path):
    text = verdict.main(tmp_path)
    lines = [line for line in text.splitlines() if line.startswith("| ")][2:]
    assert len(lines) == 9 and all("| not measured |" in line for line in lines)
    assert text.startswith("Nothing is measured.")


@pytest.mark.parametrize(("own", "expected"), [(1.0, "pass"), (1.01, "fail")])
def test_the_fastest_arm_of_ours_is_held_against_cudnn_in_its_window(own, expected):
    rows = [row(LSTM, {"torch.nn": 1.0, "pointwise": 9.0, "sequence": own, "loop, graph": 0.1})]
    result, words = result_of(rows, "persistent window")
    assert result == expected and "sequence" in words[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": "bf16"},
        {"dtype": "fp32"},
        {"cell": "gru"},
        {"cell": "gru", "dtype": "bf16"},
        {"bidirectional": True},
        {"B": 20},
        {"B": 1},
        {"H": 200, "I": 200},
    ],
    ids=str,
)
@pytest.mark.parametrize(("own", "expected"), [(0.5, "pass"), (0.51, "fail")])
def test_outside_of_it_by_two(changes, own, expected):
    rows = [row(LSTM._replace(**changes), {"torch.nn": 1.0, "sequence": own})]
    assert result_of(rows, "B not a multiple of 8")[0] == expected
    assert result_of(rows, "persistent window")[0] == "not measured"


@pytest.mark.parametrize("changes", [{"tf32": True, "dtype": "fp32"}, {"layers": 2}, {"ragged": True}], ids=str)
def test_other_rows_are_in_neither(changes):
    rows = [row(LSTM._replace(**changes), {"torch.nn": 1.0, "sequence": 9.0})]
    for title in ("persistent window", "B not a multiple of 8"):
        assert result_of(rows, title)[0] == "not measured"


@pytest.mark.parametrize(("own", "expected"), [(0.2, "pass"), (0.21, "fail")])
def test_ragged_by_five(own, expected):
    assert result_of([row(LSTM._replace(ragged=True), {"torch.nn": 1.0, "sequence": own})], "ragged")[0] == expected


def test_a_feature_is_held_against_the_plain_layer_on_its_schedule_and_the_loop():
    plain = row(LSTM, {"sequence": 1.0, "pointwise": 5.0})
    peephole = row(LSTM._replace(cell="peephole_lstm"), {"sequence": 1.5, "loop": 30.0})
    assert result_of([plain, peephole], ": cost")[0] == result_of([plain, peephole], ": gain")[0] == "pass"
    slow = row(LSTM._replace(feature="zoneout"), {"pointwise": 8.0, "loop": 100.0})
    assert result_of([plain, slow], ": cost") == (
        "fail",
        ["lstm, fp16, zoneout 64x512x512: pointwise 8 ms, plain 5 ms, 1.60x"],
    )
    assert result_of([plain, slow], ": gain")[0] == "fail"
    norm = row(LSTM._replace(cell="layer_norm_lstm", recurrence=True), {"pointwise": 6.0, "loop": 200.0})
    assert result_of([plain, norm], ": cost")[0] == "not measured"  # the plain row has the input product
    beside = row(LSTM._replace(recurrence=True), {"pointwise": 4.0, "sequence": 0.5})
    assert result_of([beside, norm], ": cost")[0] == "pass"


def test_memory_is_of_the_fastest_arm_whose_memory_is_known():
    peak = {"torch.nn": 100.0, "sequence": 99.0, "eager": 300.0}
    rows = [row(LSTM, {"torch.nn": 3.0, "pointwise, graph": 0.5, "sequence": 1.0, "eager": 7.0}, peak=peak)]
    assert result_of(rows, "memory") == ("pass", ["lstm, fp16 64x512x512: sequence 99 MiB, torch.nn 100 MiB"])
    rows[0]["times"]["forward + backward"]["sequence"][3] = 101.0
    assert result_of(rows, "memory")[0] == "fail"


def test_heads_are_those_of_a_row_that_says_so():
    work = LSTM._replace(B=16, T=1024, I=768, H=768)
    rows = [row(work, {"sequence": 8.5}, forward={"sequence": 1.9}, heads=12)]
    assert result_of(rows, "64 x 12")[0] == "pass"
    assert result_of([row(work, {"sequence": 8.5})], "64 x 12")[0] == "not measured"
    assert result_of([row(work, {"sequence": 8.5}, forward={"sequence": 2.0}, heads=12)], "64 x 12")[0] == "fail"


def test_a_training_step_is_held_against_torchs():
    work = LSTM._replace(training=True, layers=2)
    rows = [row(work, {"torch.nn": 1.0}, training={"torch.nn": 2.0, "pointwise": 1.9})]
    assert result_of(rows, "training")[0] == "pass"


def test_errors_and_wrong_arms_fail():
    assert result_of([row(LSTM, {}, error={"sequence": 2.0, "loop": 9.0})], "every row")[0] == "pass"
    assert result_of([row(LSTM, {}, error={"sequence": 2.1})], "every row")[0] == "fail"
    wrong = row(LSTM, {}, error={"pointwise": 1.0}, wrong={"sequence": "output"})
    assert result_of([wrong], "every row") == ("fail", ["lstm, fp16 64x512x512: wrong: sequence in output"])


def test_what_is_not_there_is_said():
    planned = [LSTM, LSTM._replace(H=256, I=256)]
    rows = [row(LSTM, {"torch.nn": 1.0, "sequence": 0.5})]
    assert result_of(rows, "persistent window", planned)[0] == "pass (1 of 2 not measured)"
    assert result_of([row(LSTM, {"torch.nn": 1.0})], "persistent window")[0] == "not measured"


def write(folder, about, rows):
    (folder / "lstm.json").write_text(json.dumps({"about": about, "rows": rows}))


def test_results_of_a_cpu_pass_nothing(tmp_path):
    write(tmp_path, {"device": "x86_64"}, [row(LSTM, {"torch.nn": 1.0, "sequence": 0.5})])
    text = verdict.main(tmp_path)
    assert "| pass" not in text and "These are times of a CPU (x86_64)" in text
    write(tmp_path, {"device": "NVIDIA H200", "cuDNN": "9"}, [row(LSTM, {"torch.nn": 1.0, "sequence": 0.5})])
    assert "| pass (" in verdict.main(tmp_path)


@pytest.mark.parametrize("device", ["NVIDIA H200", "x86_64"])
def test_pictures_have_every_arm_and_a_roofline_where_the_device_is_known(tmp_path, device):
    times = {"torch.nn": 2.0, "sequence": 1.0}
    sizes = [(64, 512, "fp16"), (16, 768, "fp16"), (64, 512, "fp32")]
    works = [LSTM._replace(B=batch, I=hidden, H=hidden, dtype=dtype) for batch, hidden, dtype in sizes]
    rows = [row(work, times, forward=times) for work in works]
    write(tmp_path, {"device": device}, rows)
    figure.main(tmp_path)
    assert all((tmp_path / name).stat().st_size > 10_000 for name in ("lstm.png", "lstm_forward.png"))
    drawing = figure.draw({"about": {"device": device}, "rows": rows}, None, "forward + backward")
    labels = [text.get_text() for text in drawing.legends[0].get_texts()]
    known = device == "NVIDIA H200"
    assert labels == ["torch.nn", "sequence", *(["roofline: assumed inputs"] if known else [])]
    assert known or "no roofline" in drawing.legends[0].get_title().get_text()
    figure.pyplot.close(drawing)


def test_no_two_arms_share_a_colour():
    assert len(set(figure.COLOURS.values())) == len(figure.COLOURS)


def test_large_batches_stand_before_small_ones():
    works = [{"B": 16, "H": 768}, {"B": 64, "H": 512}, {"B": 1, "H": 512}, {"B": 32, "H": 256}]
    assert figure.groups(works) == [[(32, 256), (64, 512)], [(1, 512), (16, 768)]]
