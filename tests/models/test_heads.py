"""Heads: losses beside torch's and scipy's densities, quantiles that never cross, samples that follow them."""

import numpy as np
import pytest
import torch
from scipy import stats

from rnnlab.models.heads import HEADS, LEVELS, make_head

DISTRIBUTIONS = ("quantile", "gaussian", "student_t", "negative_binomial")
heads = pytest.mark.parametrize("name", HEADS)
distributions = pytest.mark.parametrize("name", DISTRIBUTIONS)


def some(name, num_values=5, dtype=torch.float64, seed=0):
    """Return a head, raw numbers, true values and scales."""
    generator = torch.Generator().manual_seed(seed)
    head = make_head(name)
    raw = torch.randn(num_values, head.size, generator=generator, dtype=dtype)
    scale = torch.rand(num_values, generator=generator, dtype=torch.float64) * 20 + 1
    y = torch.randn(num_values, generator=generator, dtype=dtype)
    if name == "negative_binomial":
        y = (torch.randint(40, (num_values,), generator=generator) / scale).to(dtype)
    return head, raw, y, scale


def scipy_distribution(name, head, raw, scale):
    """Return scipy's distribution of the values, or of the counts."""
    if name == "gaussian":
        return stats.norm(*(part.numpy() for part in head.parameters(raw)))
    if name == "student_t":
        mean, width, freedom = (part.numpy() for part in head.parameters(raw))
        return stats.t(freedom, mean, width)
    mean, shape = (part.numpy() for part in head.parameters(raw, scale))
    return stats.nbinom(shape, shape / (shape + mean))


@heads
def test_gradients(name):
    head, raw, y, scale = some(name)
    assert torch.autograd.gradcheck(lambda raw: head.loss(raw, y, scale), raw.requires_grad_())


@heads
def test_float32_agrees_with_float64(name):
    head, raw, y, scale = some(name, 200)
    expected = head.loss(raw, y, scale)
    found = head.loss(raw.float(), y.float(), scale)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)


@heads
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [-1e4, 1e4])
def test_extreme_numbers_stay_finite(name, size, dtype):
    head, raw, y, scale = some(name, dtype=dtype)
    raw = torch.full_like(raw, size).requires_grad_()
    loss = head.loss(raw, y, scale)
    loss.sum().backward()
    assert loss.isfinite().all() and raw.grad.isfinite().all()


@pytest.mark.parametrize("name", ["gaussian", "student_t", "negative_binomial"])
def test_densities_are_those_of_scipy(name):
    head, raw, y, scale = some(name, 50)
    expected = scipy_distribution(name, head, raw, scale)
    log_p = expected.logpmf((y * scale).round()) if name == "negative_binomial" else expected.logpdf(y)
    np.testing.assert_allclose(-head.loss(raw, y, scale), log_p, rtol=1e-9)


@pytest.mark.parametrize("name", ["gaussian", "student_t", "negative_binomial"])
def test_quantiles_and_mean_are_those_of_scipy(name):
    head, raw, _, scale = some(name, 50)
    expected = scipy_distribution(name, head, raw, scale)
    units = scale if name == "negative_binomial" else torch.ones_like(scale)
    for levels in (LEVELS, (0.01, 0.5, 0.99)):
        quantiles = expected.ppf(np.array(levels)[:, None]).T
        found = head.quantiles(raw, levels, scale) * units[:, None]
        np.testing.assert_allclose(found, quantiles, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(head.mean(raw, scale) * units, expected.mean(), rtol=1e-9)


def test_pinball_loss_is_twice_the_mean_over_levels():
    head, raw, y, scale = some("quantile")
    values = head.values(raw)
    expected = 0
    for place, level in enumerate(LEVELS):
        error = y - values[:, place]
        expected = expected + 2 * torch.where(error > 0, level * error, (level - 1) * error) / len(LEVELS)
    torch.testing.assert_close(head.loss(raw, y, scale), expected)


@distributions
def test_quantiles_never_cross(name):
    head, raw, _, scale = some(name, 300)
    levels = np.linspace(0.001, 0.999, 400).tolist()
    assert (head.quantiles(3 * raw, levels, scale).diff(dim=-1) >= 0).all()


def test_quantile_head_starts_as_the_standard_normal_and_is_straight_between_levels():
    head = make_head({"name": "quantile", "levels": [0.1, 0.5, 0.75]})
    raw, scale = torch.zeros(1, 3, dtype=torch.float64), torch.ones(1)
    normal = stats.norm.ppf([0.1, 0.5, 0.75])
    np.testing.assert_allclose(head.values(raw)[0], normal, atol=1e-12)
    found = head.quantiles(raw, (0.02, 0.1, 0.3, 0.75, 0.8), scale)[0]
    np.testing.assert_allclose(
        found,
        [
            normal[0] - 0.2 * (normal[1] - normal[0]),
            normal[0],
            (normal[0] + normal[1]) / 2,
            normal[2],
            normal[2] + 0.2 * (normal[2] - normal[1]),
        ],
        atol=1e-12,
    )
    dense = head.quantiles(raw, ((np.arange(100_000) + 0.5) / 100_000).tolist(), scale)
    assert head.mean(raw, scale).item() == pytest.approx(dense.mean().item(), abs=1e-9)


@distributions
def test_samples_follow_the_quantiles(name):
    head, raw, _, scale = some(name, 3)
    count = 20_000
    generator = torch.Generator().manual_seed(1)
    draws = head.sample(raw.expand(count, *raw.shape), scale.expand(count, -1), generator)
    again = head.sample(raw.expand(count, *raw.shape), scale.expand(count, -1), torch.Generator().manual_seed(1))
    assert torch.equal(draws, again)
    quantiles = head.quantiles(raw, LEVELS, scale)  # (3, Q)
    at_most = (draws.unsqueeze(-1) <= quantiles + 1e-9).double().mean(dim=0)
    below = (draws.unsqueeze(-1) < quantiles - 1e-9).double().mean(dim=0)
    level = torch.tensor(LEVELS, dtype=torch.float64)
    error = 4 * (level * (1 - level) / count).sqrt()
    assert (at_most > level - error).all() and (below < level + error).all()
    # The mean of counts and of t's heavy tails has an error of its own.
    assert (draws.mean(dim=0) - head.mean(raw, scale)).abs().lt(5 * draws.std(dim=0) / count**0.5).all()


def test_point_losses():
    error = torch.tensor([0.5, -3.0])
    losses = {
        kind: make_head({"name": "point", "loss": kind}).loss(error.unsqueeze(-1), torch.zeros(2), torch.ones(2))
        for kind in ("mse", "mae", "huber")
    }
    torch.testing.assert_close(losses["mse"], torch.tensor([0.25, 9.0]))
    torch.testing.assert_close(losses["mae"], torch.tensor([0.5, 3.0]))
    torch.testing.assert_close(losses["huber"], torch.tensor([0.125, 2.5]))
    head = make_head({"name": "point"})
    assert head.quantiles(torch.zeros(4, 2, 1), LEVELS, torch.ones(4, 2)).shape == (4, 2, 0)


def test_counts_only():
    head = make_head({"name": "negative_binomial"})
    counts, zeros = torch.tensor([3.0, 0.0, torch.nan], dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    head.check(zeros)
    head.check_levels(counts)
    with pytest.raises(ValueError, match="is for counts as they are"):
        head.check(zeros + 1)
    for levels in (counts + 0.5, -counts):
        with pytest.raises(ValueError, match="is for counts, whole numbers from 0, and the targets have"):
            head.check_levels(levels)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ({"name": "gausian"}, "did you mean gaussian"),
        ({}, "must be one of point, quantile"),
        ({"name": "gaussian", "levels": [0.5]}, "gaussian has no option 'levels', it has none"),
        ({"name": "quantile", "loss": "mse"}, "quantile has no option 'loss', it has levels"),
        ({"name": "point", "loss": "rmse"}, "mse, mae or huber, got 'rmse'"),
        ({"name": "quantile", "levels": [0.1, 0.9]}, "with 0.5 and some on both sides"),
        ({"name": "quantile", "levels": [0.5, 0.1, 0.9]}, "increasing"),
        ({"name": "quantile", "levels": [0.5, 0.9]}, "both sides"),
        ({"name": "quantile", "levels": 0.5}, "both sides"),
        ({"name": "quantile", "levels": [10, 50, 90]}, "between 0 and 1"),
    ],
)
def test_bad_heads_are_told(head, message):
    with pytest.raises(ValueError, match=message):
        make_head(head)
