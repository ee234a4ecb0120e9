"""CTC's forward and backward passes against all alignments, published values, torch's loss, and finite differences."""

import itertools
import math

import pytest
import torch
from torch.nn.functional import ctc_loss

import rnnlab.decoding.alignment
from rnnlab.decoding import (
    align,
    check_fits,
    check_targets,
    ctc_backward,
    ctc_forward,
    ctc_loss_reference,
    needed_frames,
    occupancies,
)
from tests.decoding.paths import batch_of, best_alignment, random_logits, spelled, text_probabilities
from tests.tolerances import FLOAT64

# The two cases of Graves' own code, as the tests of TensorFlow and Keras carry them; class 5 is the blank there.
GRAVES_PROBS = (
    (
        (0.633766, 0.221185, 0.0917319, 0.0129757, 0.0142857, 0.0260553),
        (0.111121, 0.588392, 0.278779, 0.0055756, 0.00569609, 0.010436),
        (0.0357786, 0.633813, 0.321418, 0.00249248, 0.00272882, 0.0037688),
        (0.0663296, 0.643849, 0.280111, 0.00283995, 0.0035545, 0.00331533),
        (0.458235, 0.396634, 0.123377, 0.00648837, 0.00903441, 0.00623107),
    ),
    (
        (0.30176, 0.28562, 0.0831517, 0.0862751, 0.0816851, 0.161508),
        (0.24082, 0.397533, 0.0557226, 0.0546814, 0.0557528, 0.19549),
        (0.230246, 0.450868, 0.0389607, 0.038309, 0.0391602, 0.202456),
        (0.280884, 0.429522, 0.0326593, 0.0339046, 0.0326856, 0.190345),
        (0.423286, 0.315517, 0.0338439, 0.0393744, 0.0339315, 0.154046),
    ),
)
GRAVES_TEXTS = ((0, 1, 2, 1, 0), (0, 1, 1, 0))
GRAVES_LOSSES = (3.34211, 5.42262)


def mixed():
    """Return logits, lengths, targets and their lengths of rows of all kinds: full, padded, empty, with repeats."""
    texts = [(1, 2, 1), (2, 2), (), (3,), (1, 1, 1), (1, 2, 3, 1)]
    return random_logits(7, len(texts), 4, seed=0), torch.tensor([7, 3, 4, 1, 5, 6]), *batch_of(texts)


@pytest.mark.parametrize("num_frames", range(1, 8))
def test_uniform_losses_count_the_alignments_of_every_text(num_frames):
    texts = [text for size in range(num_frames + 1) for text in itertools.product((1, 2), repeat=size)]
    targets, sizes = batch_of(texts)
    lengths = torch.full((len(texts),), num_frames)
    log_probs = torch.zeros(num_frames, len(texts), 3).log_softmax(-1)
    losses = ctc_loss_reference(log_probs, lengths, targets, sizes).tolist()

    counted = {text: 0 for text in texts}
    for path in itertools.product(range(3), repeat=num_frames):
        counted[spelled(path)] += 1
    for text, loss, needed in zip(texts, losses, needed_frames(targets, sizes).tolist(), strict=True):
        repeats = sum(a == b for a, b in itertools.pairwise(text))
        assert needed == len(text) + repeats
        assert counted[text] == math.comb(num_frames + len(text) - repeats, 2 * len(text))
        expected = num_frames * math.log(3) - math.log(counted[text]) if needed <= num_frames else math.inf
        assert loss == pytest.approx(expected, rel=1e-6)
    assert sum(math.exp(-loss) for loss in losses) == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize(("num_frames", "num_classes"), [(1, 2), (1, 4), (4, 2), (5, 3), (4, 4)])
def test_probabilities_are_those_of_all_alignments_and_sum_to_one(num_frames, num_classes):
    log_probs = random_logits(num_frames, 1, num_classes, seed=num_frames).log_softmax(-1)
    expected = text_probabilities(log_probs[:, 0].exp())
    targets, sizes = batch_of(list(expected))
    rows = len(expected)
    losses = ctc_loss_reference(log_probs.expand(-1, rows, -1), torch.full((rows,), num_frames), targets, sizes)
    torch.testing.assert_close((-losses).exp(), torch.tensor(list(expected.values()), dtype=torch.float64), **FLOAT64)
    assert (-losses).exp().sum().item() == pytest.approx(1, rel=1e-12)


def test_warp_ctc_tiny_case():
    logits = torch.full((2, 1, 5), 0.1, dtype=torch.float64)
    logits[0, 0, 1] = logits[1, 0, 2] = 0.6
    loss = ctc_loss_reference(logits.log_softmax(-1), torch.tensor([2]), torch.tensor([[1, 2]]), torch.tensor([2]))
    assert loss.item() == pytest.approx(2.4628584, abs=1e-7)


@pytest.mark.parametrize("case", [0, 1])
def test_values_of_graves(case):
    probs = torch.tensor(GRAVES_PROBS, dtype=torch.float64)[case].unsqueeze(1).roll(1, -1)  # the blank first
    targets, sizes = batch_of([[symbol + 1 for symbol in GRAVES_TEXTS[case]]])
    loss = ctc_loss_reference(probs.log(), torch.tensor([5]), targets, sizes)
    assert loss.item() == pytest.approx(GRAVES_LOSSES[case], abs=1e-5)


def test_gradient_is_softmax_less_occupancy_by_every_route():
    logits, lengths, targets, sizes = mixed()
    logits.requires_grad_()
    log_probs = logits.log_softmax(-1)
    losses = ctc_loss_reference(log_probs, lengths, targets, sizes)
    (gradient,) = torch.autograd.grad(losses.sum(), logits, retain_graph=True)
    torch_losses = ctc_loss(log_probs, targets, lengths, sizes, reduction="none")
    (torch_gradient,) = torch.autograd.grad(torch_losses.sum(), logits)
    inside = (torch.arange(7).unsqueeze(1) < lengths).unsqueeze(2)
    by_hand = (log_probs.exp() - occupancies(log_probs, lengths, targets, sizes)).masked_fill(~inside, 0.0)

    torch.testing.assert_close(losses, torch_losses, **FLOAT64)
    torch.testing.assert_close(gradient, by_hand, **FLOAT64)
    torch.testing.assert_close(torch_gradient, by_hand, **FLOAT64)
    torch.testing.assert_close(gradient.sum(-1), torch.zeros(7, 6, dtype=torch.float64), **FLOAT64)
    assert (gradient[~inside.expand_as(gradient)] == 0).all()
    step = 1e-5
    for t, row, k in itertools.product((0, 2, 6), range(6), range(4)):
        nudged = logits.detach().expand(2, -1, -1, -1).clone()
        nudged[0, t, row, k] += step
        nudged[1, t, row, k] -= step
        up, down = (ctc_loss_reference(x.log_softmax(-1), lengths, targets, sizes)[row] for x in nudged)
        assert gradient[t, row, k].item() == pytest.approx(((up - down) / (2 * step)).item(), abs=1e-6)


def test_both_passes_meet_in_every_frame():
    logits, lengths, targets, sizes = mixed()
    log_probs = logits.log_softmax(-1)
    alpha, from_end = ctc_forward(log_probs, lengths, targets, sizes)
    beta, from_start = ctc_backward(log_probs, lengths, targets, sizes)
    torch.testing.assert_close(from_end, from_start, **FLOAT64)
    inside = torch.arange(7).unsqueeze(1) < lengths
    expected = from_end.expand(7, -1).masked_fill(~inside, -math.inf)
    torch.testing.assert_close((alpha + beta).logsumexp(-1), expected, **FLOAT64)
    torch.testing.assert_close(occupancies(log_probs, lengths, targets, sizes).sum(-1), inside.double(), **FLOAT64)


def test_a_target_that_does_not_fit_costs_infinity_and_has_no_gradient():
    logits = random_logits(4, 3, 3, seed=1).requires_grad_()
    targets, sizes = batch_of([(1, 1, 1), (1, 2), (1, 2, 1)])
    lengths = torch.tensor([4, 4, 2])
    log_probs = logits.log_softmax(-1)
    losses = ctc_loss_reference(log_probs, lengths, targets, sizes)
    assert losses[[0, 2]].tolist() == [math.inf, math.inf] and losses[1].isfinite()
    losses.sum().backward()
    assert logits.grad[:, [0, 2]].abs().sum() == 0 and logits.grad[:, 1].abs().sum() > 0
    assert occupancies(log_probs, lengths, targets, sizes)[:, [0, 2]].sum() == 0


def test_no_frames_spell_the_empty_text_alone():
    targets, sizes = batch_of([(), (1,)])
    for num_frames in (0, 2):
        losses = ctc_loss_reference(torch.zeros(num_frames, 2, 3), torch.zeros(2, dtype=torch.int64), targets, sizes)
        assert losses.tolist() == [0, math.inf]
    path = align(torch.zeros(0, 1, 3), torch.tensor([0]), targets[:1], sizes[:1])
    assert path.shape == (0, 1)


@pytest.mark.parametrize("whole_numbers", [False, True])  # with few different scores: many ties
@pytest.mark.parametrize("num_frames", [1, 3, 6])
def test_alignment_is_the_best_of_all(num_frames, whole_numbers):
    texts = [text for size in range(4) for text in itertools.product((1, 2), repeat=size)]
    targets, sizes = batch_of(texts)
    fits = needed_frames(targets, sizes) <= num_frames
    texts = [text for text, fit in zip(texts, fits.tolist(), strict=True) if fit]
    scores = random_logits(num_frames, len(texts), 3, seed=3, scale=0.8)
    if whole_numbers:
        scores = scores.round()
    path = align(scores, torch.full((len(texts),), num_frames), targets[fits], sizes[fits])
    assert path.dtype == torch.int64 and path.shape == (num_frames, len(texts))
    for row, text in enumerate(texts):
        assert path[:, row].tolist() == best_alignment(scores[:, row], text)


def test_long_sounds_are_aligned_block_by_block_to_the_same(monkeypatch):
    log_probs, lengths, targets, sizes = mixed()
    expected = align(log_probs, lengths, targets, sizes)
    monkeypatch.setattr(rnnlab.decoding.alignment, "_MOVES", 1)
    assert torch.equal(align(log_probs, lengths, targets, sizes), expected)


def test_impossible_frames_are_aligned_all_the_same():
    log_probs = torch.full((4, 1, 3), -math.inf)
    log_probs[:, :, 0] = 0.0
    path = align(log_probs, torch.tensor([4]), torch.tensor([[2, 1]]), torch.tensor([2]))
    assert spelled(path[:, 0].tolist()) == (2, 1)


@pytest.mark.parametrize("rubbish", [math.nan, math.inf])
def test_padding_has_no_influence(rubbish):
    logits, lengths, targets, sizes = mixed()
    log_probs = logits.log_softmax(-1)
    beyond = torch.arange(7).unsqueeze(1) >= lengths
    dirty = log_probs.masked_fill(beyond.unsqueeze(2), rubbish)
    dirty_targets = targets.masked_fill(torch.arange(targets.shape[1]) >= sizes.unsqueeze(1), 99)
    assert torch.equal(needed_frames(dirty_targets, sizes), needed_frames(targets, sizes))
    for function in (align, occupancies, ctc_loss_reference):
        expected = function(log_probs, lengths, targets, sizes)
        assert torch.equal(function(dirty, lengths, dirty_targets, sizes), expected)
    assert (expected.isfinite()).all()
    path = align(log_probs, lengths, targets, sizes)
    assert (path[beyond] == 0).all()
    for row, (length, text, size) in enumerate(zip(lengths, targets.tolist(), sizes, strict=True)):
        alone = align(
            log_probs[:length, row : row + 1], lengths[row : row + 1], targets[row : row + 1], sizes[row : row + 1]
        )
        assert torch.equal(path[:length, row], alone[:, 0])
        assert list(spelled(path[:, row].tolist())) == text[:size]


@pytest.mark.parametrize(("names", "name"), [(None, "row 1"), (["a.wav", "b.wav", "c.wav"], "b.wav")])
def test_the_row_that_does_not_fit_is_named(names, name):
    targets, sizes = batch_of([(1, 2), (1, 1, 2), (3, 3)])
    check_fits(torch.tensor([2, 4, 3]), targets, sizes, names)
    message = f"{name}: a target of 3 symbols and 1 repeats needs 4 frames, got 3; 1 more rows are too short"
    with pytest.raises(ValueError, match=message):
        check_fits(torch.tensor([2, 3, 2]), targets, sizes, names)
    with pytest.raises(ValueError, match="row 0: a target of 2 symbols needs 2 frames, got 1$"):
        align(torch.zeros(4, 3, 4), torch.tensor([1, 4, 4]), targets, sizes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"log_probs": torch.zeros(2, 3)}, r"logits must be floating point \(T, B, V\), got torch.float32 \(2, 3\)"),
        ({"lengths": torch.ones(3, dtype=torch.int64)}, r"lengths must be \(2,\) for logits \(4, 2, 3\), got \(3,\)"),
        ({"lengths": torch.tensor([1, 5])}, "lengths must be from 0 to T = 4, got 5 in row 1"),
        ({"lengths": torch.tensor([1.0, 2.0])}, "lengths must be integers, got torch.float32"),
        ({"targets": torch.ones(3, 2, dtype=torch.int64)}, r"targets must be \(2, U\) and target_lengths \(2,\)"),
        ({"target_lengths": torch.tensor([-1, 2])}, "target_lengths must be from 0 to U = 2, got -1 in row 0"),
        ({"targets": torch.tensor([[1, 2], [3, 0]])}, "must be from 1 to 2, got 3, of 3 classes, at place 0 of row 1"),
        ({"targets": torch.tensor([[1, 0], [1, 0]])}, "got 0, which is the blank, at place 1 of row 0"),
    ],
)
def test_what_does_not_fit_is_told(changes, message):
    arguments = {
        "log_probs": torch.zeros(4, 2, 3),
        "lengths": torch.tensor([4, 4]),
        "targets": torch.tensor([[1, 2], [1, 0]]),
        "target_lengths": torch.tensor([2, 1]),
    }
    for function in (align, ctc_backward, occupancies, ctc_loss_reference):
        with pytest.raises(ValueError, match=message):
            function(**{**arguments, **changes})


def test_a_blank_alone_is_no_vocabulary():
    with pytest.raises(ValueError, match="CTC needs the blank and one symbol at least, got 1 classes"):
        check_targets(1, torch.zeros(1, 0, dtype=torch.int64), torch.tensor([0]))
