"""What sampling draws: priming, distributions against their definitions, and independence of everything else."""

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from rnnlab.decoding import FINISHED, next_distribution, prime, sample
from rnnlab.decoding.sampling import START, UNKNOWN, advance, draw
from tests.decoding.models import RNNS, VOCAB_SIZE, Constant, char_lm
from tests.tolerances import FLOAT64

CPU = torch.device("cpu")
PROMPTS = [[4], [], [3, 3, 5, 2, 6, 4], [2, 6]]
NAN = math.nan


def drawn(model, prompts, length, **options):
    """Return all symbols of a sample, (B, length)."""
    return torch.stack(list(sample(model, prompts, length, **options)), dim=1)


@pytest.mark.parametrize("prompts", [PROMPTS, [[5, 2], [3, 3]], [[]]], ids=["ragged", "equal", "empty"])
@pytest.mark.parametrize("name", RNNS)
def test_priming_equals_reading_one_by_one(name, prompts):
    model = char_lm(name)
    logits, state = prime(model, prompts, CPU)
    following, _ = advance(model, torch.full((len(prompts),), 3), state)
    for row, prompt in enumerate(prompts):
        one_state = model.initial_state(1)
        for index in [START, *prompt]:
            one, one_state = advance(model, torch.tensor([index]), one_state)
        torch.testing.assert_close(logits[row], one[0], **FLOAT64)
        one, _ = advance(model, torch.tensor([3]), one_state)
        torch.testing.assert_close(following[row], one[0], **FLOAT64)


def test_priming_begins_a_document():
    """Also where the layer would go on from its last call."""
    model = char_lm("stateful")
    first, _ = prime(model, PROMPTS, CPU)
    torch.testing.assert_close(prime(model, PROMPTS, CPU)[0], first)


def test_priming_of_one_length_needs_no_lengths():
    """A layer that knows no `lengths`, such as torch's own, can be sampled from."""
    from rnnlab.models import CharLM

    model = CharLM(lambda input_size: nn.LSTM(input_size, 5), VOCAB_SIZE)
    assert drawn(model, [[2, 3], [4, 5]], 6).shape == (2, 6)


@pytest.mark.parametrize("name", RNNS)
def test_greedy_takes_the_most_likely_symbol(name):
    model = char_lm(name)
    ids = drawn(model, PROMPTS, 12, temperature=0)
    for prompt, row in zip(PROMPTS, ids.tolist(), strict=True):
        logits = model(torch.tensor([[START, *prompt, *row[:-1]]]))[0, len(prompt) :]
        logits[:, [UNKNOWN, START]] = -math.inf
        assert logits.argmax(-1).tolist() == row


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 1.0},
        {"temperature": 0.5},
        {"temperature": 2.0},
        {"temperature": 0.7, "top_k": 3},
        {"top_p": 0.8},
    ],
    ids=str,
)
def test_frequencies_follow_the_distribution(options):
    """Pearson's statistic stays below its 99.9% quantile, over the rows of a step and over the steps of a row."""
    model = Constant([9.0, 9.0, 0.0, 1.0, -1.0, 2.0, 0.5])
    expected = next_distribution(model.logits.detach()[None], **options, banned=(UNKNOWN, START))[0]
    for ids in (drawn(model, [[]] * 4000, 1, **options), drawn(model, [[]], 4000, **options)):
        counts = torch.bincount(ids.flatten(), minlength=VOCAB_SIZE).double()
        possible = expected > 0
        assert counts[~possible].sum() == 0
        means = 4000 * expected[possible]
        assert ((counts[possible] - means) ** 2 / means).sum() < 18.5  # 99.9% at 4 degrees of freedom


logit_rows = st.lists(st.floats(-8, 8), min_size=VOCAB_SIZE, max_size=VOCAB_SIZE)


@settings(deadline=None, max_examples=200)
@given(
    logits=logit_rows,
    temperature=st.floats(0.05, 5),
    top_k=st.none() | st.integers(1, 9),
    top_p=st.none() | st.floats(0.01, 1),
    banned=st.sets(st.integers(0, VOCAB_SIZE - 1), max_size=VOCAB_SIZE - 1),
)
def test_distribution_against_its_definition(logits, temperature, top_k, top_p, banned):
    allowed = [i for i in range(VOCAB_SIZE) if i not in banned]
    weights = {i: math.exp((logits[i] - max(logits[j] for j in allowed)) / temperature) for i in allowed}
    ranked = sorted(allowed, key=lambda i: -weights[i])[:top_k]
    shares = [sum(weights[i] for i in ranked[:size]) / sum(weights[i] for i in ranked) for size in range(len(ranked))]
    limit = 2 if top_p is None else top_p
    assume(all(abs(share - limit) > 1e-12 for share in shares))  # else rounding decides
    kept = [i for i, share in zip(ranked, shares, strict=True) if share < limit]
    expected = [weights[i] / sum(weights[j] for j in kept) if i in kept else 0.0 for i in range(VOCAB_SIZE)]
    result = next_distribution(
        torch.tensor([logits] * 2, dtype=torch.float64), temperature, top_k, top_p, sorted(banned)
    )
    torch.testing.assert_close(result, torch.tensor([expected] * 2, dtype=torch.float64), **FLOAT64)


def test_nucleus_is_the_smallest_set_that_reaches_p():
    logits = torch.tensor([[0.5, 0.25, 0.125, 0.125]], dtype=torch.float64).log()
    for top_p, size in [(1e-9, 1), (0.4, 1), (0.6, 2), (0.8, 3), (0.9, 4), (1, 4)]:
        result = next_distribution(logits, top_p=top_p)
        assert (result > 0).sum() == size
        torch.testing.assert_close(result[0, :size], logits[0, :size].softmax(-1))


def test_nucleus_is_taken_of_what_top_k_has_left():
    logits = torch.tensor([[0.5, 0.25, 0.125, 0.125]], dtype=torch.float64).log()
    assert next_distribution(logits, top_k=2, top_p=0.6).tolist() == [[1, 0, 0, 0]]  # two thirds reach 0.6


def test_of_equals_the_first_are_kept():
    logits = torch.zeros(1, 4)
    assert next_distribution(logits, temperature=0, banned=[0]).tolist() == [[0, 1, 0, 0]]
    assert next_distribution(logits, top_k=2).tolist() == [[0.5, 0.5, 0, 0]]
    assert next_distribution(logits, top_p=0.3).tolist() == [[0.5, 0.5, 0, 0]]


@pytest.mark.parametrize("temperature", [5e-324, 1e-307, 1e-8, 1e300])
def test_extreme_temperatures_stay_finite(temperature):
    result = next_distribution(torch.tensor([[1e3, -1e3, 0.0, -1e30]]), temperature)[0]
    expected = [0.25] * 4 if temperature > 1 else [1, 0, 0, 0]
    torch.testing.assert_close(result, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize(
    ("logits", "banned"), [([0.0, NAN], []), ([0.0, math.inf], []), ([0.0, 1.0], [0, 1]), ([-math.inf] * 2, [])]
)
def test_nothing_is_drawn_of_logits_that_are_not_finite(logits, banned):
    for temperature in (0, 1):
        with pytest.raises(ValueError, match="no symbol to choose: the model's logits are not finite"):
            next_distribution(torch.tensor([[0.0, 0.0], logits]), temperature, banned=banned)


def test_each_symbol_is_drawn_given_all_before_it():
    """A draw lies where its random number falls in the distribution that one pass over everything before it gives.

    The numbers are seen through a model to which a thousand symbols are equally likely.
    """
    model, length = char_lm(), 40
    steps = list(sample(model, PROMPTS, length, seed=3))
    assert all(ids.shape == (4,) and ids.dtype == torch.int64 for ids in steps)
    ids = torch.stack(steps, dim=1)
    thousandths = drawn(Constant([0.0] * 1002), PROMPTS, length, seed=3) - 2
    for row, prompt in enumerate(PROMPTS):
        logits = model(torch.tensor([[START, *prompt, *ids[row, :-1].tolist()]]))[0, len(prompt) :]
        probabilities = next_distribution(logits, banned=(UNKNOWN, START))
        above = probabilities.cumsum(-1).gather(1, ids[row, :, None]).squeeze(1)
        below = above - probabilities.gather(1, ids[row, :, None]).squeeze(1)
        assert (below < (thousandths[row] + 1) / 1000).all() and (above > thousandths[row] / 1000).all()


@settings(deadline=None, max_examples=100)
@given(weights=st.lists(st.sampled_from([0.0, 0.1, 1 / 3, 0.7, 1e-9]), min_size=1, max_size=9).filter(any))
def test_only_what_is_possible_is_drawn(weights):
    """At both ends of the range of random numbers, whatever the sum of the probabilities is rounded to."""
    weights = torch.tensor([weights, weights], dtype=torch.float64)
    ids = draw(weights / weights.sum(-1, keepdim=True), torch.tensor([0.0, 1 - 2.0**-53], dtype=torch.float64))
    possible = weights[0].nonzero().flatten()
    assert ids.tolist() == [possible[0], possible[-1]]


def test_a_row_depends_on_nothing_beside_it():
    model = char_lm()
    alone = drawn(model, [PROMPTS[2]], 300, seed=5)
    assert torch.equal(drawn(model, [PROMPTS[2], [6], []], 300, seed=5)[:1], alone)
    assert torch.equal(drawn(model, [PROMPTS[2]] * 40, 300, seed=5)[:1], alone)
    assert torch.equal(drawn(model, [PROMPTS[2]], 7, seed=5), alone[:, :7])
    many = drawn(model, PROMPTS, 300, seed=5)
    changed = drawn(model, [[2, 2, 2], *PROMPTS[1:], [4]], 300, seed=5)
    assert torch.equal(changed[1:4], many[1:])
    assert len({tuple(row) for row in drawn(model, [[]] * 50, 40).tolist()}) == 50


def test_seeds():
    model = char_lm()
    first = drawn(model, PROMPTS, 50, seed=1)
    assert torch.equal(first, drawn(model, PROMPTS, 50, seed=1))
    assert len({tuple(drawn(model, [[]], 50, seed=seed)[0].tolist()) for seed in range(20)}) == 20


def test_global_generators_and_modes_are_left_alone():
    model = char_lm(dropout=0.5)
    model.train()
    model.head.eval()
    before = torch.get_rng_state()
    steps = sample(model, PROMPTS, 5)
    next(steps)
    assert not model.rnn.training
    assert not torch.is_inference_mode_enabled() and torch.is_grad_enabled()
    steps.close()
    assert model.training and model.rnn.training and model.dropout.training and not model.head.training
    ids = drawn(model, PROMPTS, 5)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(ids, drawn(model.eval(), PROMPTS, 5)), "no noise of training"
    model(ids)[0].sum().backward()  # what is drawn can be trained on
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_modes_are_put_back_after_a_failure():
    model = char_lm().train()
    with torch.no_grad():
        model.head.bias.fill_(NAN)
    with pytest.raises(ValueError, match="not finite"):
        next(sample(model, [[]], 5))
    assert model.training


@pytest.mark.parametrize("stop", [[4], [4, 4], [4, 3, 4]], ids=str)
def test_rows_end_with_the_stop_string(stop):
    model = Constant([0.0] * 5)
    free = drawn(model, [stop] * 30, 200)
    stopped = drawn(model, [stop] * 30, 200, stop=stop)
    for before, after in zip(free.tolist(), stopped.tolist(), strict=True):
        before = before[: len(after)]
        ends = [n for n in range(len(stop), len(before) + 1) if before[n - len(stop) : n] == stop]
        length = ends[0] if ends else len(before)
        assert after[:length] == before[:length]
        assert set(after[length:]) <= {FINISHED}


def test_a_sample_ends_when_all_rows_do():
    model = Constant([0.0, 0.0, 5.0, 0.0])
    assert len(list(sample(model, [[], [3]], 100, stop=[2, 2], temperature=0))) == 2
    assert len(list(sample(model, [[], [3]], 100, stop=[3], temperature=0))) == 100
    assert len(list(sample(model, [[2]], 1, stop=[2, 2], temperature=0))) == 1, "the prompt is no part of it"


def test_banned_symbols_never_come():
    model = Constant([9.0, 9.0, 0.0, 0.0, 2.0])
    assert set(drawn(model, [[]], 500).unique().tolist()) == {2, 3, 4}
    assert set(drawn(model, [[]], 500, banned=[0, 1, 4]).unique().tolist()) == {2, 3}
    assert 1 in drawn(model, [[]], 500, banned=[])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 0}, "length must be an integer of at least 1, got 0"),
        ({"length": 2.0}, "length must be an integer of at least 1, got 2.0"),
        ({"temperature": -0.1}, "temperature must be a finite number of at least 0, got -0.1"),
        ({"temperature": NAN}, "temperature must be a finite number of at least 0, got nan"),
        ({"temperature": math.inf}, "temperature must be a finite number of at least 0, got inf"),
        ({"temperature": "warm"}, "temperature must be a finite number of at least 0, got 'warm'"),
        ({"top_k": 0}, "top_k must be an integer of at least 1, got 0"),
        ({"top_k": True}, "top_k must be an integer of at least 1, got True"),
        ({"top_k": "abc"}, "top_k must be an integer of at least 1, got 'abc'"),
        ({"top_p": 0}, "top_p must be a number above 0 and at most 1, got 0"),
        ({"top_p": 1.1}, "top_p must be a number above 0 and at most 1, got 1.1"),
        ({"top_p": NAN}, "top_p must be a number above 0 and at most 1, got nan"),
        ({"seed": -1}, "seed must be an integer of at least 0 and below 4294967296, got -1"),
        ({"seed": 2**32}, "seed must be an integer of at least 0 and below 4294967296, got 4294967296"),
        ({"stop": []}, "stop must not be empty"),
        ({"prompts": []}, "prompts must not be empty"),
    ],
    ids=str,
)
def test_arguments_are_checked_at_once(options, message):
    with pytest.raises(ValueError) as error:
        sample(Constant([0.0] * 4), **{"prompts": [[]], "length": 3, **options})
    assert str(error.value) == message
