"""The CRF sums over all paths, as counting them shows; padding and missing tags are what the docstring says."""

import itertools

import pytest
import torch
from torch.nn.functional import cross_entropy

from rnnlab.models.crf import LinearChainCRF
from tests.tolerances import FLOAT64

LENGTHS = torch.tensor([5, 1, 3, 4])


def random_crf(num_tags, dtype=torch.float64):
    crf = LinearChainCRF(num_tags).to(dtype)
    for weight in crf.parameters():
        torch.nn.init.normal_(weight)
    return crf


def problem(num_tags, dtype=torch.float64):
    """Return a CRF, emissions of four sentences, and tags of which some are missing."""
    emissions = torch.randn(4, 5, num_tags, dtype=dtype, requires_grad=True)
    tags = torch.randint(num_tags, (4, 5))
    tags[0, 2] = tags[3, 0] = -100
    tags[3, 3] = -100
    return random_crf(num_tags, dtype), emissions, tags.masked_fill(torch.arange(5) >= LENGTHS[:, None], -100)


def all_paths(crf, emissions):
    """Return all paths of one sentence (n, K), as rows, and their scores."""
    paths = torch.tensor(list(itertools.product(range(emissions.shape[1]), repeat=len(emissions))))
    scores = crf.start[paths[:, 0]] + crf.end[paths[:, -1]] + crf.transitions[paths[:, :-1], paths[:, 1:]].sum(1)
    return paths, scores + emissions[torch.arange(len(emissions)), paths].sum(1)


@pytest.mark.parametrize("num_tags", [1, 2, 3])
def test_loss_and_its_gradients_are_those_of_all_paths(num_tags):
    crf, emissions, tags = problem(num_tags)
    expected = []
    for row, length in enumerate(LENGTHS.tolist()):
        paths, scores = all_paths(crf, emissions[row, :length])
        known = tags[row, :length]
        agrees = ((paths == known) | (known < 0)).all(1)
        expected.append(scores.logsumexp(0) - scores[agrees].logsumexp(0))
    expected, loss = torch.stack(expected), crf.loss(emissions, tags, LENGTHS)
    torch.testing.assert_close(loss, expected, **FLOAT64)
    upstream, inputs = torch.randn(4, dtype=torch.float64), [emissions, *crf.parameters()]
    found = torch.autograd.grad(loss, inputs, upstream)
    for ours, theirs in zip(found, torch.autograd.grad(expected, inputs, upstream), strict=True):
        torch.testing.assert_close(ours, theirs, **FLOAT64)


def test_gradcheck():
    crf, emissions, tags = problem(3)
    inputs = (emissions, *crf.parameters())
    assert torch.autograd.gradcheck(lambda emissions, *_: crf.loss(emissions, tags, LENGTHS), inputs)


@pytest.mark.parametrize("rubbish", [0.0, 1e4, torch.inf, -torch.inf, torch.nan])
def test_padding_has_no_influence_and_no_gradient(rubbish):
    crf, emissions, tags = problem(3)
    beyond = torch.arange(5) >= LENGTHS[:, None]
    padded = emissions.detach().masked_fill(beyond[:, :, None], rubbish).requires_grad_()
    loss = crf.loss(padded, tags.masked_fill(beyond, 1), LENGTHS)
    assert torch.equal(loss, crf.loss(emissions, tags, LENGTHS))
    loss.sum().backward()
    assert torch.equal(padded.grad[beyond], torch.zeros(int(beyond.sum()), 3, dtype=torch.float64))
    assert all(weight.grad.isfinite().all() for weight in crf.parameters())


def test_sentences_do_not_mix():
    crf, emissions, tags = problem(3)
    loss = crf.loss(emissions, tags, LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        alone = crf.loss(emissions[row : row + 1, :length], tags[row : row + 1, :length], LENGTHS[row : row + 1])
        torch.testing.assert_close(loss[row : row + 1], alone, **FLOAT64)


def test_before_training_it_is_a_softmax_at_each_token():
    _, emissions, tags = problem(3)
    losses = cross_entropy(emissions.flatten(0, 1), tags.flatten(), reduction="none").view(4, 5)
    torch.testing.assert_close(LinearChainCRF(3).double().loss(emissions, tags, LENGTHS), losses.sum(1), **FLOAT64)


def test_without_any_tag_nothing_is_lost():
    crf, emissions, tags = problem(3)
    loss = crf.loss(emissions, torch.full_like(tags, -100), LENGTHS)
    assert torch.equal(loss, torch.zeros(4, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("convert_crf", [False, True])
def test_half_precision_is_summed_in_single(dtype, convert_crf):
    crf, emissions, tags = problem(3, torch.float32)
    crf, half = crf.to(dtype if convert_crf else torch.float32), emissions.detach().to(dtype).requires_grad_()
    loss, tagged = crf.loss(half, tags, LENGTHS), crf.decode(half, LENGTHS)
    crf.float()
    assert loss.dtype == torch.float32
    assert torch.equal(loss, crf.loss(half.float(), tags, LENGTHS))
    assert torch.equal(tagged, crf.decode(half.float(), LENGTHS))
    loss.sum().backward()
    assert half.grad.dtype == dtype and half.grad.isfinite().all()


def test_autocast_changes_nothing():
    crf, emissions, tags = problem(3, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        loss = crf.loss(emissions, tags, LENGTHS)
    assert torch.equal(loss, crf.loss(emissions, tags, LENGTHS))


def test_marginals_are_sums_over_paths():
    crf, emissions, _ = problem(3)
    with torch.inference_mode():
        marginals = crf.marginals(emissions, LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        paths, scores = all_paths(crf, emissions[row, :length])
        has_tag = torch.nn.functional.one_hot(paths, 3).double()  # (paths, n, K)
        expected = (scores.softmax(0)[:, None, None] * has_tag).sum(0).detach()
        torch.testing.assert_close(marginals[row, :length], expected, **FLOAT64)
        assert not marginals[row, length:].any()


def test_decode_finds_the_most_likely_path():
    crf, emissions, _ = problem(3)
    tags = crf.decode(emissions, LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        paths, scores = all_paths(crf, emissions[row, :length])
        assert torch.equal(tags[row, :length], paths[scores.argmax()])
        assert not tags[row, length:].any()


def test_it_learns_which_tag_follows_which():
    tags = torch.arange(8).remainder(3).expand(4, 8)  # emissions say nothing
    crf, lengths = LinearChainCRF(3), torch.full((4,), 8)
    optimizer = torch.optim.Adam(crf.parameters(), lr=0.3)
    for _ in range(60):
        optimizer.zero_grad()
        loss = crf.loss(torch.zeros(4, 8, 3), tags, lengths).mean()
        loss.backward()
        optimizer.step()
    assert loss < 0.05
    assert torch.equal(crf.decode(torch.zeros(4, 8, 3), lengths), tags)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_forbidden_has_the_gradients_of_what_is_all_but_forbidden(dtype):
    emissions, tags = torch.randn(4, 5, 3, dtype=dtype), torch.tensor([0, 1, 2, 0, 0]).expand(4, 5)
    found = []
    for forbidden in (-torch.inf, -1e9):
        torch.manual_seed(0)
        crf = random_crf(3, dtype)
        with torch.no_grad():  # the tag 2 comes after 1 alone, nothing goes from 2 to 1, and 1 ends no sentence
            for weight in (crf.transitions[0, 2:], crf.transitions[2, 1:], crf.start[2:], crf.end[1:2]):
                weight.fill_(forbidden)
        inputs = emissions.clone().requires_grad_()
        loss = crf.loss(inputs[:1], tags[:1], LENGTHS[:1])
        gradients = torch.autograd.grad(loss.sum(), [inputs, *crf.parameters()])
        found.append([loss.detach(), *gradients, crf.marginals(emissions, LENGTHS)])
    for ours, theirs in zip(*found, strict=True):
        assert ours.isfinite().all()
        torch.testing.assert_close(ours, theirs)


def test_forbidden_tags_are_infinitely_unlikely_and_leave_finite_gradients():
    crf, emissions, tags = problem(3)
    with torch.no_grad():
        crf.start[int(tags[1, 0])] = -torch.inf
    loss = crf.loss(emissions, tags, LENGTHS)
    loss.sum().backward()
    assert loss[1] == torch.inf and emissions.grad.isfinite().all()
    assert all(weight.grad.isfinite().all() for weight in crf.parameters())


@pytest.mark.parametrize("lengths", [[-1, 1, 3, 4], [0, 1, 3, 4], [6, 1, 3, 4], [4.5, 1, 3, 4]])
def test_lengths_are_integers_from_one_to_the_number_of_steps(lengths):
    crf, emissions, tags = problem(3)
    for call in (lambda *given: crf.loss(emissions, tags, *given), lambda *given: crf.decode(emissions, *given)):
        with pytest.raises(ValueError, match="lengths must be"):
            call(torch.tensor(lengths))


def test_shapes_must_fit():
    crf, emissions, tags = problem(3)
    with pytest.raises(ValueError, match=r"tags must be \(4, 5\), as the emissions, got \(4, 4\)"):
        crf.loss(emissions, tags[:, :4], LENGTHS)
    with pytest.raises(ValueError, match=r"transitions must be \(2, 2\)"):
        crf.loss(emissions[:, :, :2], tags, LENGTHS)
