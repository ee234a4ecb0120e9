"""A sound that comes in parts: what is heard is what the whole would give, however it is cut."""

import functools

import pytest
import torch

import rnnlab.nn
from rnnlab.decoding import listening
from rnnlab.decoding.listening import listen, logits_in_parts, spans_of
from rnnlab.models import Transcriber


@pytest.mark.parametrize("stack", [1, 3])
@pytest.mark.parametrize("sizes", [[60], [1] * 60, [5, 1, 9, 45], [59, 1], [0, 60]])
def test_parts_are_heard_as_the_whole(stack, sizes):
    torch.manual_seed(1)
    rnn = functools.partial(rnnlab.nn.LSTM, hidden_size=16, backend="eager")
    model = Transcriber(rnn, num_features=3, num_classes=4, stack=stack)
    with torch.no_grad():
        model.head.weight.mul_(9)  # so that many classes come
    sound = 3 * torch.randn(60, 3)
    logits, _ = model(sound.unsqueeze(1), torch.tensor([60]))
    expected = spans_of(logits[:, 0].argmax(dim=-1).tolist(), stack)
    assert len(expected) > 2
    assert list(listen(model, sound.split(sizes))) == expected


@pytest.mark.parametrize("stack", [1, 3])
@pytest.mark.parametrize("sizes", [[300], [1] * 300, [7, 0, 193, 100]])
def test_a_network_both_ways_reads_windows(stack, sizes, monkeypatch):
    monkeypatch.setattr(listening, "WINDOW", 64)
    monkeypatch.setattr(listening, "OVERLAP", 31)
    torch.manual_seed(1)
    rnn = functools.partial(rnnlab.nn.GRU, hidden_size=8, bidirectional=True, backend="eager")
    model = Transcriber(rnn, num_features=3, num_classes=4, stack=stack).eval()
    sound = torch.randn(300, 3)
    whole, steps = model(sound.unsqueeze(1), torch.tensor([300]))
    read = []
    model.register_forward_pre_hook(lambda _, args: read.append(len(args[0])))
    logits = torch.cat(list(logits_in_parts(model, sound.split(sizes))))
    assert len(logits) == steps and max(read) == 64 // stack * stack and len(read) > 5
    torch.testing.assert_close(logits, whole[:, 0], atol=0.05, rtol=0)  # what is 15 frames away is almost forgotten
    wrong = (logits - whole[:, 0]).abs().amax(1)
    assert wrong[: 40 // stack].max() < 0.05 and wrong.max() > 1e-7  # and its absence is felt


def test_a_sound_of_one_window_is_read_as_a_whole():
    rnn = functools.partial(rnnlab.nn.GRU, hidden_size=8, bidirectional=True, backend="eager")
    model, sound = Transcriber(rnn, num_features=3, num_classes=4).eval(), torch.randn(50, 3)
    (logits,) = logits_in_parts(model, [sound])
    torch.testing.assert_close(logits, model(sound.unsqueeze(1), torch.tensor([50]))[0][:, 0])
    assert list(logits_in_parts(model, [sound[:0]])) == []


def test_a_symbol_is_told_as_soon_as_it_is_over():
    class Hears(torch.nn.Module):
        """Hears the class that each frame names."""

        stack, streams = 1, True

        def step(self, features, state):
            return torch.nn.functional.one_hot(features[..., 0].long(), 4).float(), None

    taken = []

    def parts():
        for symbol in (0, 1, 1, 0, 2):
            taken.append(symbol)
            yield torch.full((1, 1), float(symbol))

    heard = listen(Hears(), parts())
    assert next(heard) == (1, 1, 3) and len(taken) == 4
    assert list(heard) == [(2, 4, 5)]
    assert list(listen(Hears(), [])) == []
