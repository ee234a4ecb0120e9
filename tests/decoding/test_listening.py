"""A sound that comes in parts: what is heard is what the whole would give, however it is cut."""

import functools

import pytest
import torch

import rnnlab.nn
from rnnlab.decoding.listening import listen, spans_of
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


def test_a_symbol_is_told_as_soon_as_it_is_over():
    class Hears(torch.nn.Module):
        """Hears the class that each frame names."""

        stack = 1

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
