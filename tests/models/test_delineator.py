"""The delineator: shapes, what a frame may depend on, and signals that come in pieces."""

import functools

import pytest
import torch

import rnnlab.nn
from rnnlab.models import Delineator, TimeDelay

LSTM = functools.partial(rnnlab.nn.LSTM, hidden_size=6, backend="eager")


def model_of(rnn=LSTM, **options):
    torch.manual_seed(0)
    return Delineator(rnn, num_points=5, sample_rate=250, **options).eval()


KINDS = {
    "onwards": lambda: model_of(),
    "delayed": lambda: model_of(delay_ms=160),
    "time-delay": lambda: model_of(functools.partial(TimeDelay, hidden_size=6, taps=5), delay_ms=32),
    "both ways": lambda: model_of(functools.partial(LSTM, bidirectional=True)),
    "convolutions": lambda: model_of(None, width=7),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("num_samples", "num_frames"), [(1, 1), (4, 1), (101, 26)])
def test_a_score_for_each_frame(kind, num_samples, num_frames):
    model = KINDS[kind]()
    assert model(torch.randn(3, num_samples)).shape == (num_frames, 3, 6) and model.frame_seconds == 0.016
    assert torch.sigmoid(model(torch.zeros(1, 40))[..., 0]).max() < 0.1  # beats are rare


def depends_on(model, frame, num_samples=800):
    """Return the first and last sample that a frame's scores depend on."""
    signal = torch.randn(1, num_samples, requires_grad=True)
    model(signal)[frame].square().sum().backward()
    touched = signal.grad[0].nonzero()[:, 0]
    return int(touched.min()), int(touched.max())


def test_what_a_frame_depends_on():
    first, last = depends_on(KINDS["onwards"](), 100)
    assert last == 100 * 4 + 3 + 8  # the front end looks eight samples on
    first, last = depends_on(KINDS["delayed"](), 100)
    assert last == 110 * 4 + 3 + 8
    first, last = depends_on(KINDS["convolutions"](), 100)
    reach = 12 * 4 + 8  # 12 frames are 192 ms, 8 samples the front end's
    assert (first, last) == (400 - reach, 403 + reach)
    first, last = depends_on(KINDS["time-delay"](), 100)  # five frames, two of them to come
    assert (first, last) == (98 * 4 - 8, 102 * 4 + 3 + 8)
    assert depends_on(KINDS["both ways"](), 100) == (0, 799)


def pieces_of(signal, size):
    return (signal[start : start + size] for start in range(0, len(signal), size))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [3, 250, 10_000])
def test_pieces_make_the_whole(kind, size, monkeypatch):
    monkeypatch.setattr("rnnlab.models.delineator._WINDOW", 1.0)
    monkeypatch.setattr("rnnlab.models.delineator._MARGIN", 2.0)
    model, signal = KINDS[kind](), torch.randn(1_403)
    with torch.inference_mode():
        whole = model(signal[None])[:, 0]
        found = list(model.stream(pieces_of(signal, size)))
    assert len(torch.cat(found)) == 351
    torch.testing.assert_close(torch.cat(found), whole, rtol=0, atol=1e-5)
    assert len(found) > 1 or size > 1_403 and model.streams


def test_windows_lie_where_they_lie_whatever_the_pieces():
    model, signal = KINDS["both ways"](), torch.randn(20_011)
    with torch.inference_mode():
        found, others = (torch.cat(list(model.stream(pieces_of(signal, size)))) for size in (977, 20_011))
    assert torch.equal(found, others) and len(found) == 5_003


def test_memory_does_not_grow_with_the_signal():
    read = []

    def pieces():
        for number in range(40):
            read.append(number)
            yield torch.randn(5_000)

    for kind in KINDS:
        with torch.inference_mode():
            read_before = [read[-1] for _ in KINDS[kind]().stream(pieces())]
        assert read_before[0] <= 4 and len(read_before) >= 12  # answers come while it is read


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stack": 0}, "model.stack must be an integer of at least 1, got 0"),
        ({"channels": True}, "model.channels must be an integer"),
        ({"delay_ms": -1}, "model.delay_ms must lie from 0 to 10000, got -1"),
        ({"rnn": None, "delay_ms": 100}, "for layers that go onwards alone, convolutions see what follows anyway"),
        ({"rnn": functools.partial(LSTM, bidirectional=True), "delay_ms": 100}, "rnn.bidirectional=true sees what"),
    ],
)
def test_refused(options, message):
    with pytest.raises(ValueError, match=message):
        model_of(**options)


def test_no_signal_is_refused():
    for signal in (torch.zeros(2, 0), torch.zeros(5)):
        with pytest.raises(ValueError, match="signal must be"):
            model_of()(signal)
