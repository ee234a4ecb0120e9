"""One vector a sequence: what each pooling is, that padding has no part in it, and what distorts in training."""

from functools import partial

import pytest
import torch

import rnnlab.nn
from rnnlab.models import Classifier
from rnnlab.models.classifier import POOLINGS
from rnnlab.models.distortion import Distortion

GRU = partial(rnnlab.nn.GRU, hidden_size=4)
CELL = partial(rnnlab.nn.Recurrent, cell=partial(rnnlab.nn.LayerNormGRUCell, hidden_size=4))
LENGTHS = torch.tensor([7, 3, 1])


def values(num_steps=7, lengths=LENGTHS, filler=0.0):
    x = torch.randn(num_steps, len(lengths), 5, generator=torch.Generator().manual_seed(1))
    return x.masked_fill((torch.arange(num_steps).unsqueeze(1) >= lengths).unsqueeze(2), filler)


@pytest.mark.parametrize("rnn", [GRU, CELL])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("stack", [1, 2])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_rows_are_scored_as_they_are_alone_whatever_stands_in_padding(pooling, stack, bidirectional, rnn):
    rnn = partial(rnn, bidirectional=bidirectional, num_layers=2)
    model = Classifier(rnn, 5, 3, pooling=pooling, stack=stack, projection=6).eval()
    together = model(values(filler=9.0), LENGTHS)
    alone = [model(values()[:length, row : row + 1], LENGTHS[row : row + 1]) for row, length in enumerate(LENGTHS)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-5, atol=1e-5)
    together.sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("bidirectional", [False, True])
def test_poolings_are_what_they_say(bidirectional):
    models = {
        name: Classifier(partial(GRU, bidirectional=bidirectional), 5, 3, pooling=name).eval() for name in POOLINGS
    }
    for model in models.values():
        model.rnn, model.head = models["mean"].rnn, torch.nn.Identity()
    output = models["mean"].rnn(values(), lengths=LENGTHS)[0]
    found = {name: model(values(), LENGTHS) for name, model in models.items()}
    for row, length in enumerate(LENGTHS):
        steps = output[:length, row]
        ends = torch.cat([steps[-1, :4], steps[0, 4:]])
        weights = models["attention"].attention(steps).softmax(0)
        expected = {"mean": steps.mean(0), "max": steps.amax(0), "last": ends, "attention": (weights * steps).sum(0)}
        for name, vector in expected.items():
            torch.testing.assert_close(found[name][row], vector, rtol=1e-5, atol=1e-6)
    h_n = models["mean"].rnn(values(), lengths=LENGTHS)[1]
    torch.testing.assert_close(found["last"], torch.cat(list(h_n), dim=-1))


def test_rows_may_be_longer_than_the_longest_length():
    model = Classifier(GRU, 5, 3).eval()
    torch.testing.assert_close(model(values(9), LENGTHS), model(values(9)[:7], LENGTHS))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pooling": "sum"}, "model.pooling must be one of last, mean, max, attention, got 'sum'"),
        ({"stack": 0}, "model.stack must be an integer of at least 1, got 0"),
        ({"projection": 1.5}, "model.projection must be an integer of at least 1, got 1.5"),
        ({"dropout": 1.0}, r"model.dropout must lie in \[0, 1\), got 1.0"),
        ({"distortion": {"warp": 1.0}}, r"model.distortion.warp must be a number in \[0, 1\), got 1.0"),
        ({"distortion": {"noise": -1}}, "model.distortion.noise must be a number at least 0, got -1"),
        ({"distortion": {"roll": 1.5}}, "model.distortion.roll must be an integer, got 1.5"),
    ],
)
def test_what_cannot_be_built(arguments, message):
    with pytest.raises(ValueError, match=message):
        Classifier(GRU, 5, 3, **arguments)


def test_values_of_another_width_are_refused():
    with pytest.raises(ValueError, match=r"values must be \(T, B, 5\) with T >= 1, got \(7, 3, 4\)"):
        Classifier(GRU, 5, 3)(torch.zeros(7, 3, 4), LENGTHS)


def test_nothing_is_distorted_in_evaluation_or_without_settings():
    x = values()
    every = Distortion(roll=2, warp=0.2, scale=0.2, tilt=0.2, noise=0.2, column_dropout=0.5)
    assert every.eval()(x, LENGTHS) is x and Distortion()(x, LENGTHS) is x
    changed = every.train()(x, LENGTHS)
    assert changed.shape == x.shape and not torch.allclose(changed, x)


def test_rolling_moves_each_row_around_its_own_end():
    lengths = torch.tensor([6, 4] * 50)
    x = torch.arange(6.0).view(6, 1, 1).expand(6, 100, 1)
    moved = Distortion(roll=2)(x, lengths)
    shifts = set()
    for row, length in enumerate(lengths.tolist()):
        found = moved[:length, row, 0].tolist()
        shift = int(found.index(0.0))
        assert found == torch.arange(length).roll(shift).tolist()
        shifts.add((shift + 2) % length - 2)
    assert shifts == {-2, -1, 0, 1, 2} or shifts == {-2, -1, 0, 1}


def test_warping_reads_a_line_faster_or_slower_about_its_middle():
    lengths = torch.tensor([9, 5] * 20)
    line = torch.arange(9.0).view(9, 1, 1).expand(9, 40, 1)
    warped = Distortion(warp=0.5)(line, lengths)
    factors = []
    for row, length in enumerate(lengths.tolist()):
        found, middle = warped[:length, row, 0], (length - 1) / 2
        assert found[length // 2] == middle
        factor = float(found[length // 2 + 1]) - middle
        expected = ((torch.arange(length) - middle) * factor + middle).clamp(0, length - 1)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        factors.append(factor)
    assert 0.5 <= min(factors) < 0.7 and 1.3 < max(factors) <= 1.5


def test_scale_tilt_and_columns_are_one_number_a_row():
    ones, lengths = torch.ones(8, 500, 2), torch.full((500,), 8)
    scaled = Distortion(scale=0.2)(ones, lengths)
    assert (scaled == scaled[:1]).all() and 0.8 <= scaled.min() < 0.82 and 1.18 < scaled.max() <= 1.2
    tilted = Distortion(tilt=0.5)(ones, lengths) - 1
    torch.testing.assert_close(tilted.mean(0), torch.zeros(500, 2), atol=1e-6, rtol=0)
    torch.testing.assert_close(tilted[0], -tilted[-1])
    assert 0.48 < tilted.abs().max() <= 0.5 and torch.allclose(
        tilted.diff(dim=0).diff(dim=0), torch.zeros(1), atol=1e-6
    )
    dropped = Distortion(column_dropout=0.25)(ones, lengths)
    assert dropped.unique().tolist() == pytest.approx([0.0, 4 / 3]) and (dropped == dropped[:1]).all()
    assert (dropped == 0).float().mean() == pytest.approx(0.25, abs=0.05)
    assert Distortion(noise=0.5)(ones, lengths).std() == pytest.approx(0.5, abs=0.02)
