"""Forecasters of windows: direct and recursive ones, what they ignore, and what they refuse."""

from functools import partial

import pytest
import torch

import rnnlab.nn
from rnnlab.models import RecursiveForecaster, SeriesForecaster, TimeDelay
from rnnlab.models.heads import HEADS, LEVELS
from tests.models.forecast_batches import make_batch, sizes_of

GRU = partial(rnnlab.nn.GRU, hidden_size=6)
MODELS = {"direct": SeriesForecaster, "recursive": RecursiveForecaster}
models = pytest.mark.parametrize("kind", MODELS)
heads = pytest.mark.parametrize("head", HEADS)


def model_of(kind, batch, head="gaussian", rnn=GRU, **options):
    torch.manual_seed(0)
    return MODELS[kind](rnn, **sizes_of(batch), head={"name": head}, **options).eval()


def counted(batch):
    """Return the batch with counts for targets."""
    counts = (3 * batch.target.abs()).round()
    return batch._replace(target=counts / batch.scale.float(), loc=torch.zeros_like(batch.loc))


@models
@heads
@pytest.mark.parametrize("num_known", [0, 2])
def test_shapes(kind, head, num_known):
    batch = make_batch(num_known=num_known)
    batch = counted(batch) if head == "negative_binomial" else batch
    model = model_of(kind, batch, head)
    model.check(batch)
    loss, weight = model.loss(batch)
    assert loss.shape == weight.shape == batch.target.shape
    for num_steps in (None, 2):
        mean, quantiles = model.forecast(batch, LEVELS, num_steps)
        assert mean.shape == (4, num_steps or 3, 2)
        assert quantiles.shape == (*mean.shape, 0 if head == "point" else len(LEVELS))
        assert mean.isfinite().all() and (quantiles.diff(dim=-1) >= 0).all()
    assert model.train().loss(batch)[0].shape == (4, 3 if kind == "direct" else 3 + 9 - 1, 2)


@models
def test_every_parameter_learns_and_missing_targets_teach_nothing(kind):
    batch = make_batch(num_known=2)
    model = model_of(kind, batch, series_size=3)
    missing = torch.zeros_like(batch.target, dtype=torch.bool)
    missing[0, 2], missing[2, :, 1] = True, True
    gradients = []
    for value in (torch.nan, 1e6):
        loss, weight = model.loss(batch._replace(target=batch.target.masked_fill(missing, value)))
        if kind == "recursive":  # where true values are read, what follows a missing one would differ
            loss, weight = loss[:, :1], weight[:, :1]
        if value != value:
            seen = ~missing[:, : loss.shape[1]]
            assert torch.equal(weight, seen.float()) and loss.isfinite().all()
        model.zero_grad()
        (loss * seen).sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for (name, _), first, second in zip(model.named_parameters(), *gradients, strict=True):
        assert torch.equal(first, second), name
        assert first.abs().sum() > 0, name


@models
def test_one_step_is_one_step(kind):
    """At horizon 1 both are the same function, of weights that are the same."""
    batch = make_batch(horizon=1, num_targets=1)
    direct, recursive = (model_of(kind, batch, "student_t").double() for kind in MODELS)
    recursive.load_state_dict(direct.state_dict())
    batch = batch._replace(past=batch.past.double())
    for first, second in zip(direct.forecast(batch, LEVELS), recursive.forecast(batch, LEVELS), strict=True):
        torch.testing.assert_close(first, second, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(direct.loss(batch), recursive.loss(batch), rtol=1e-9, atol=1e-9)


def test_a_recursive_point_forecast_reads_its_own_numbers():
    batch = make_batch(num_known=1)
    model = model_of("recursive", batch, "point")
    mean, _ = model.forecast(batch, LEVELS)
    given = model.loss(batch._replace(target=mean))[0]  # teacher forced with what it says itself: no error
    torch.testing.assert_close(given, torch.zeros_like(given), atol=1e-10, rtol=0)


def test_recursion_goes_on_as_far_as_one_asks():
    batch = make_batch(horizon=2)
    model = model_of("recursive", batch)
    longer = make_batch(horizon=7)._replace(past=batch.past)
    mean, quantiles = model.forecast(longer, LEVELS)
    assert mean.shape == (4, 7, 2) and quantiles.isfinite().all()
    torch.testing.assert_close(mean[:, :2], model.forecast(batch, LEVELS)[0])


def test_paths_of_a_random_walk_spread_as_it_does():
    """A network whose next value is N(its input, 1) by construction: K steps on, the deviation is sqrt(K)."""
    batch = make_batch(num_windows=2, horizon=9, num_targets=1)

    class Last(torch.nn.Module):
        bidirectional, hidden_size, proj_size = False, 1, 0

        def forward(self, x, state=None):
            return x, torch.zeros(1, x.shape[1], 1)

    model = model_of("recursive", batch, rnn=lambda input_size: Last(), num_samples=4000)
    with torch.no_grad():
        model.readout.weight.copy_(torch.tensor([[1.0], [0.0]]))
        model.readout.bias.copy_(torch.tensor([0.0, 0.5413248]))  # softplus of it: 1
    mean, quantiles = model.forecast(batch, LEVELS)
    steps = torch.arange(1, 10).sqrt()
    normal = torch.special.ndtri(torch.tensor(LEVELS))
    expected = batch.past[:, -1:, 0, None] + (steps[:, None] * normal)
    error = (quantiles[:, :, 0] - expected) / steps[:, None]
    assert error.abs().max() < 4 * (0.025 * 0.975 / 4000) ** 0.5 / 0.058  # sqrt(p (1 - p) / S) / density
    assert (mean[:, :, 0] - batch.past[:, -1:, 0]).abs().max() < 4 * 3 / 4000**0.5


def test_quantiles_of_paths_have_the_share_of_their_level():
    from rnnlab.models.recursive_forecaster import _quantiles

    draws = torch.rand(20_000, 39, 1, 1, generator=torch.Generator().manual_seed(0))
    found = _quantiles(draws, (0.025, 0.5, 0.975)).mean(dim=0).flatten()
    torch.testing.assert_close(found, torch.tensor([0.025, 0.5, 0.975]), atol=2e-3, rtol=0)


@models
def test_forecasts_draw_nothing_from_the_global_stream(kind):
    batch = make_batch()
    model = model_of(kind, batch)
    first = model.forecast(batch, LEVELS)
    state = torch.get_rng_state()
    second = model.forecast(batch, LEVELS)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(map(torch.equal, first, second))


def test_known_covariates_act_on_their_own_step():
    batch = make_batch(num_known=2)
    model, other = model_of("direct", batch), batch.future.clone()
    other[:, 1] += 1
    same = (model.forecast(batch._replace(future=other), LEVELS)[0] == model.forecast(batch, LEVELS)[0]).all(dim=2)
    assert same.tolist() == [[True, False, True]] * 4


def test_a_series_is_forgotten_at_random_in_training_alone():
    batch = make_batch(num_windows=300)._replace(series=torch.full((300,), 2))
    model = model_of("direct", batch, series_size=3, series_dropout=0.3)
    model.loss(batch)[0].sum().backward()
    assert model.embedding.table.weight.grad[0].abs().sum() == 0
    model.train().loss(batch)[0].sum().backward()
    assert model.embedding.table.weight.grad[0].abs().sum() > 0


def test_a_bidirectional_layer_reads_the_window():
    batch = make_batch()
    model = model_of("direct", batch, rnn=partial(rnnlab.nn.LSTM, hidden_size=4, bidirectional=True))
    assert model.forecast(batch, LEVELS)[0].isfinite().all()
    assert model_of("direct", batch, rnn=partial(TimeDelay, hidden_size=4, taps=3)).forecast(batch, LEVELS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rnn": partial(rnnlab.nn.GRU, hidden_size=4, bidirectional=True)}, "rnn.bidirectional=false"),
        ({"rnn": partial(TimeDelay, hidden_size=4, taps=3)}, "needs a recurrent layer"),
        ({"num_samples": 1}, "model.num_samples must be an integer of at least 2, got 1"),
        ({"series_size": -1}, "model.series_size must be an integer of at least 0"),
        ({"series_dropout": 1.0}, "model.series_dropout must lie in"),
    ],
)
def test_refused_by_the_recursive_model(change, message):
    with pytest.raises(ValueError, match=message):
        model_of("recursive", make_batch(), **change)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="there must be no past covariates"):
        model_of("recursive", make_batch(num_past=1))
    batch = make_batch()
    moving = batch._replace(loc=batch.loc + torch.arange(3)[:, None])
    model = model_of("recursive", batch)
    for refused in (model.check, partial(model.forecast, levels=LEVELS)):
        with pytest.raises(ValueError, match="data.difference=false"):
            refused(moving)
    with pytest.raises(ValueError, match="tells 3 steps, 5 were asked for: model=recursive_forecaster can go on"):
        model_of("direct", batch).forecast(make_batch(horizon=5), LEVELS)
    for kind in MODELS:
        with pytest.raises(ValueError, match="is for counts"):
            model_of(kind, batch, "negative_binomial").check(batch)


def test_stacks_read_the_window_from_its_end():
    batch = make_batch()  # nine steps
    model = model_of("direct", batch, stack=4)
    assert model.rnn.input_size == 4 * sizes_of(batch)["input_size"]
    whole = torch.cat([torch.zeros_like(batch.past[:, :3]), batch.past], dim=1)
    torch.testing.assert_close(model.raw(batch, 3), model.raw(batch._replace(past=whole), 3))
    later = batch._replace(past=batch.past[:, 1:])
    assert not torch.equal(model.raw(batch, 3), model.raw(later, 3))
    with pytest.raises(ValueError, match="model.stack must be an integer of at least 1, got 0"):
        model_of("direct", batch, stack=0)
