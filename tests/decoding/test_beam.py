"""Beam search against the enumeration of everything it could find."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnlab.decoding import beam_search, sample
from rnnlab.decoding.sampling import START, UNKNOWN
from tests.decoding.models import RNNS, VOCAB_SIZE, Constant, char_lm

LENGTH = 4
SYMBOLS = range(2, VOCAB_SIZE)
PROMPT = [3, 6, 2]


@torch.no_grad()
def forced(model, prompt, rows):
    """Return the log-probabilities of continuations (N, T) up to each of their symbols, in one pass over them."""
    rows = torch.tensor(rows)
    read = torch.tensor([START, *prompt]).expand(len(rows), -1)
    log_probs = model(torch.cat([read, rows[:, :-1]], dim=1))[:, len(prompt) :].log_softmax(-1)
    return log_probs.gather(2, rows[:, :, None]).squeeze(2).cumsum(1).tolist()


def everything(model, prompt, stop=None):
    """Return the log-probability of every hypothesis there is, by its symbols."""
    found = {}
    rows = list(itertools.product(SYMBOLS, repeat=LENGTH))
    for ids, totals in zip(rows, forced(model, prompt, rows), strict=True):
        ends = [n for n in range(1, LENGTH + 1) if stop and ids[:n][-len(stop) :] == tuple(stop)]
        length = ends[0] if ends else LENGTH
        found[ids[:length]] = totals[length - 1]
    return found


def score(log_prob, length, alpha):
    return log_prob / ((5 + length) / 6) ** alpha


@pytest.mark.parametrize("name", RNNS)
def test_wide_enough_a_beam_finds_everything_in_order(name):
    model = char_lm(name)
    expected = everything(model, PROMPT)
    found = beam_search(model, PROMPT, LENGTH, beam=len(SYMBOLS) ** LENGTH, length_penalty=0.7)
    assert {hypothesis.ids for hypothesis in found} == set(expected) and len(found) == len(expected)
    for hypothesis in found:
        assert hypothesis.log_prob == pytest.approx(expected[hypothesis.ids], rel=1e-9)
        assert hypothesis.score == pytest.approx(score(hypothesis.log_prob, LENGTH, 0.7), rel=1e-12)
    assert all(a.score >= b.score for a, b in itertools.pairwise(found))


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 10**6),
    stop=st.lists(st.sampled_from(SYMBOLS), min_size=1, max_size=3),
    alpha=st.sampled_from([0.0, 0.6, 1.0, 3.0]),
)
def test_wide_enough_a_beam_finds_the_best_with_a_stop(seed, stop, alpha):
    torch.manual_seed(seed)
    model = char_lm("gru")
    expected = everything(model, PROMPT, stop)
    found = beam_search(model, PROMPT, LENGTH, beam=len(SYMBOLS) ** LENGTH, length_penalty=alpha, stop=stop)
    best = max(expected, key=lambda ids: score(expected[ids], len(ids), alpha))
    assert found[0].ids == best
    assert len({hypothesis.ids for hypothesis in found}) == len(found)
    for ids, log_prob, normalised in found:
        assert log_prob == pytest.approx(expected[ids], rel=1e-9)
        assert normalised == pytest.approx(score(log_prob, len(ids), alpha), rel=1e-9)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), stop=st.none() | st.lists(st.sampled_from(SYMBOLS), min_size=1, max_size=2))
def test_a_beam_of_one_is_greedy(seed, stop):
    torch.manual_seed(seed)
    model = char_lm("lstm")
    for prompt in ([], PROMPT):
        (found,) = beam_search(model, prompt, 15, beam=1, length_penalty=2.0, stop=stop)
        assert found.ids == tuple(int(ids) for ids in sample(model, [prompt], 15, temperature=0, stop=stop))


@pytest.mark.parametrize("beam", [2, 5, 11])
@pytest.mark.parametrize("name", RNNS)
def test_states_follow_their_hypotheses(name, beam):
    """Every score is that of a fresh pass over the hypothesis: rows that were not reordered would show here."""
    model = char_lm(name)
    found = beam_search(model, PROMPT, 25, beam=beam)
    assert len(found) == beam and len({hypothesis.ids for hypothesis in found}) == beam
    assert all(len(hypothesis.ids) == 25 for hypothesis in found)
    for hypothesis in found:
        assert hypothesis.log_prob == pytest.approx(forced(model, PROMPT, [hypothesis.ids])[0][-1], rel=1e-9)
    assert not {UNKNOWN, START} & {index for hypothesis in found for index in hypothesis.ids}


def test_a_wider_beam_sees_past_a_tempting_start():
    """Greedy takes 2, after which nothing is likely; the best continuation begins with 3."""

    class Tempting(Constant):
        def forward(self, ids, state=None, *, lengths=None, return_state=False):
            after = {2: [0.2, 0.2, 0.2, 0.2, 0.2], 3: [0.0, 0.0, 0.0, 0.0, 1.0]}
            rows = [[after.get(index, [0.0, 0.0, 0.6, 0.4, 0.0]) for index in row] for row in ids.tolist()]
            return torch.tensor(rows, dtype=torch.float64).log(), None

    model = Tempting([0.0])
    assert [hypothesis.ids for hypothesis in beam_search(model, [], 2, beam=1)] == [(2, 2)]
    first, second = beam_search(model, [], 2, beam=2)
    assert first.ids == (3, 4) and math.exp(first.log_prob) == pytest.approx(0.4)
    assert second.ids == (2, 2) and math.exp(second.log_prob) == pytest.approx(0.12)


def probabilities(*values):
    """Return a model with these probabilities of the symbols from 2 on, at every step."""
    return Constant([-math.inf, -math.inf, *map(math.log, values)])


def test_finished_hypotheses_are_never_extended():
    model = probabilities(0.6, 0.3, 0.1)
    found = beam_search(model, [2], 6, beam=8, stop=[3], length_penalty=1.5)
    assert len({hypothesis.ids for hypothesis in found}) == len(found)
    for ids, log_prob, _ in found:
        assert 3 not in ids[:-1]
        assert ids[-1] == 3 or len(ids) == 6
        assert log_prob == pytest.approx(sum(math.log([0.6, 0.3, 0.1][index - 2]) for index in ids))


def test_without_normalisation_the_search_ends_with_what_cannot_be_beaten():
    model = probabilities(0.5, 0.4, 0.1)
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    (found,) = beam_search(model, [], 100, beam=4, stop=[2])
    assert found.ids == (2,) and len(calls) == 1


def test_normalisation_lets_longer_hypotheses_win():
    model = probabilities(0.5, 0.4, 0.1)
    assert beam_search(model, [], 30, beam=4, stop=[3], length_penalty=0.0)[0].ids == (3,)
    assert beam_search(model, [], 30, beam=4, stop=[3], length_penalty=3.0)[0].ids == (2,) * 30


def test_a_live_hypothesis_still_wins_where_it_can():
    """What ends at once is likely, but the other way is likelier by length: the search must not end too early."""
    model = probabilities(0.9, 0.1)
    found = beam_search(model, [], 3, beam=2, stop=[3], length_penalty=0.0)
    assert [hypothesis.ids for hypothesis in found] == [(2, 2, 2), (3,)]


def test_fewer_hypotheses_than_places():
    found = beam_search(probabilities(0.7, 0.3), [], 2, beam=10)
    assert sorted(hypothesis.ids for hypothesis in found) == [(2, 2), (2, 3), (3, 2), (3, 3)]
    assert all(math.isfinite(hypothesis.log_prob) for hypothesis in found)
    assert {h.ids for h in beam_search(probabilities(0.7, 0.3), [], 2, beam=10, banned=[0, 1, 3])} == {(2, 2)}


def test_banned_symbols_keep_their_share():
    """Probabilities of what may be chosen remain the model's own, and do not grow by what is banned."""
    (best,) = beam_search(Constant([0.0] * 4), [], 1, beam=1)
    assert (best.ids, math.exp(best.log_prob)) == ((2,), pytest.approx(0.25))


def test_the_model_is_left_as_it_was():
    model = char_lm(dropout=0.5).train()
    before = torch.get_rng_state()
    found = beam_search(model, PROMPT, 5)
    assert model.training and torch.equal(torch.get_rng_state(), before)
    assert found == beam_search(model.eval(), PROMPT, 5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 0}, "length must be an integer of at least 1, got 0"),
        ({"beam": 0}, "beam must be an integer of at least 1, got 0"),
        ({"beam": "wide"}, "beam must be an integer of at least 1, got 'wide'"),
        ({"length_penalty": -1.0}, "length_penalty must be a finite number of at least 0, got -1.0"),
        ({"stop": []}, "stop must not be empty"),
        ({"banned": range(4)}, "no symbol to choose: the model's logits are not finite, or every symbol is banned"),
    ],
    ids=str,
)
def test_arguments_are_checked(options, message):
    with pytest.raises(ValueError) as error:
        beam_search(Constant([0.0] * 4), [], **{"length": 3, **options})
    assert str(error.value) == message
