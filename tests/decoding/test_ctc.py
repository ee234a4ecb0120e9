"""CTC's decoders: exact with a beam as wide as there are texts, never worse than the best path, padding and all."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import rnnlab.decoding.ctc
from rnnlab.baselines import NGram
from rnnlab.decoding import (
    align,
    best_path,
    best_path_in_parts,
    ctc_loss_reference,
    prefix_beam,
    prefix_beam_in_parts,
)
from rnnlab.decoding.prefixes import Options, PrefixSearch
from tests.decoding.paths import batch_of, random_logits, text_probabilities

WIDE = 10**6  # more than there are prefixes


def fixture(batch=40, num_frames=20, num_classes=6):
    """Return logits and lengths that a beam has to choose among."""
    lengths = torch.randint(0, num_frames + 1, (batch,), generator=torch.Generator().manual_seed(1))
    return random_logits(num_frames, batch, num_classes, seed=0), lengths


def test_the_likeliest_alignment_need_not_be_the_likeliest_text():
    logits = torch.tensor([0.6, 0.4, 0.0]).log().expand(2, 1, 3)
    (best,), ((found,),) = best_path(logits, torch.tensor([2])), prefix_beam(logits, torch.tensor([2]))
    assert best.ids == best.frames == [] and math.exp(best.log_prob) == pytest.approx(0.36)
    assert found.ids == [1] and math.exp(found.log_prob) == pytest.approx(0.64)
    assert found.frames == [0] and found.score == found.log_prob
    ((first, second),) = prefix_beam(logits, torch.tensor([2]), n_best=2)
    assert first == found and second.ids == [] and math.exp(second.log_prob) == pytest.approx(0.36)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 5), st.integers(2, 4), st.integers(0, 999))
def test_without_pruning_it_is_the_best_of_all_texts(num_frames, num_classes, seed):
    logits = random_logits(num_frames, 2, num_classes, seed)
    for row, found in enumerate(prefix_beam(logits, torch.full((2,), num_frames), beam=WIDE, n_best=WIDE)):
        expected = text_probabilities(logits[:, row].softmax(-1))
        assert {tuple(one.ids) for one in found} == set(expected)
        assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
        for one in found:
            assert math.exp(one.log_prob) == pytest.approx(expected[tuple(one.ids)], rel=1e-9)
        assert tuple(found[0].ids) == max(expected, key=expected.get)


def test_a_beam_is_no_worse_than_the_best_path_and_wider_is_better():
    logits, lengths = fixture()
    likelihoods = [likelihood(logits, lengths, best_path(logits, lengths))]
    for beam in (4, 16, 64):
        found = [row[0] for row in prefix_beam(logits, lengths, beam=beam)]
        likelihoods.append(likelihood(logits, lengths, found))
        claimed = torch.tensor([one.log_prob for one in found], dtype=torch.float64)
        assert (claimed <= likelihoods[-1] + 1e-9).all()  # what left the beam is missing
    assert all((found >= likelihoods[0] - 1e-9).all() for found in likelihoods)
    sums = [found.sum().item() for found in likelihoods]
    assert sums == sorted(sums) and sums[0] < sums[1]


def likelihood(logits, lengths, found):
    """Return the log-probability of each transcript, summed over all alignments, float64 (B,)."""
    return -ctc_loss_reference(logits.log_softmax(-1), lengths, *batch_of([one.ids for one in found]))


def test_best_path_merges_repeats_and_finds_spikes():
    sure, likely = 5.0, 3.0
    frames = [(0, sure), (1, likely), (1, sure), (1, likely), (2, sure), (0, sure), (2, likely), (2, sure)]
    logits = torch.zeros(8, 2, 3)
    for t, (symbol, value) in enumerate(frames):
        logits[t, :, symbol] = value
    whole, part = best_path(logits, torch.tensor([8, 4]))
    assert (whole.ids, whole.frames) == ([1, 2, 2], [2, 4, 7])
    assert (part.ids, part.frames) == ([1], [2])
    assert whole.log_prob == pytest.approx(logits[:, 0].log_softmax(-1).amax(-1).sum().item(), rel=1e-6)
    ((searched,), _) = prefix_beam(logits, torch.tensor([8, 4]))
    assert (searched.ids, searched.frames) == (whole.ids, whole.frames)


def test_frames_are_the_spikes_of_the_best_alignment():
    logits, lengths = fixture()
    found = [row[0] for row in prefix_beam(logits, lengths)]
    classes = align(logits, lengths, *batch_of([one.ids for one in found]))
    for row, one in enumerate(found):
        assert len(one.frames) == len(one.ids) and one.frames == sorted(set(one.frames))
        assert classes[one.frames, row].tolist() == one.ids


@pytest.mark.parametrize("rubbish", [math.nan, math.inf, 50.0])
def test_rows_do_not_depend_on_padding_nor_on_each_other(rubbish, monkeypatch):
    logits, lengths = fixture()
    expected = prefix_beam(logits, lengths, n_best=3, min_prob=0.05)
    beyond = torch.arange(len(logits)).unsqueeze(1) >= lengths
    dirty = logits.masked_fill(beyond.unsqueeze(2), rubbish)
    assert prefix_beam(dirty, lengths, n_best=3, min_prob=0.05) == expected
    assert best_path(dirty, lengths) == best_path(logits, lengths)
    monkeypatch.setattr(rnnlab.decoding.ctc, "_ENTRIES", 1)  # one row at a time
    assert prefix_beam(logits, lengths, n_best=3, min_prob=0.05) == expected


def test_no_frames_no_rows_and_half_precision():
    (found,) = prefix_beam(torch.zeros(0, 1, 3), torch.tensor([0]))
    assert found == [([], 0.0, [], 0.0)] == best_path(torch.zeros(0, 1, 3), torch.tensor([0]))
    no_rows = torch.zeros(4, 0, 3), torch.zeros(0, dtype=torch.int64)
    assert prefix_beam(*no_rows) == best_path(*no_rows) == []
    logits, lengths = fixture(batch=3)
    logits = logits.bfloat16()
    assert prefix_beam(logits, lengths.int()) == prefix_beam(logits.double(), lengths)


def test_equal_texts_keep_their_order_of_numbers():
    ((one, two, three),) = prefix_beam(torch.zeros(1, 1, 4), torch.tensor([1]), n_best=3)
    assert [one.ids, two.ids, three.ids] == [[], [1], [2]]


def test_improbable_classes_extend_no_prefix():
    logits, lengths = fixture()
    exact = prefix_beam(logits, lengths)
    assert prefix_beam(logits, lengths, min_prob=1e-12) == exact
    probs = logits.softmax(-1)
    for row, (found,) in enumerate(prefix_beam(logits, lengths, min_prob=0.3)):
        seen = set((probs[: lengths[row], row, 1:] >= 0.3).nonzero()[:, 1].add(1).tolist())
        assert set(found.ids) <= seen


class Never:
    """A language model that forbids a symbol, and notes what it is asked."""

    def __init__(self, banned):
        self.banned, self.asked = banned, []

    def start(self):
        return ()

    def score(self, state, symbol):
        self.asked.append((*state, symbol))
        return (-math.inf if symbol == self.banned else math.log(0.5)), (*state, symbol)


def test_a_language_model_is_asked_once_and_can_forbid():
    logits, lengths = fixture(batch=1)
    lengths = torch.full_like(lengths, 20)
    model = Never(banned=2)
    ((found,),) = prefix_beam(logits, lengths, language_model=model)
    assert 2 in best_path(logits, lengths)[0].ids and 2 not in found.ids
    assert len(model.asked) == len(set(model.asked)) and not any(2 in asked[:-1] for asked in model.asked)
    assert found.score == pytest.approx(found.log_prob + 0.5 * len(found.ids) * math.log(0.5))
    assert prefix_beam(logits, lengths, language_model=model, lm_weight=0.0) == prefix_beam(logits, lengths)


@pytest.mark.parametrize("insertion_bonus", [-0.7, 0.0, 0.7])
def test_scores_are_those_of_both_models_and_the_bonus(insertion_bonus):
    ngram = NGram([(1, 2, 1, 2), (3, 1)], num_symbols=4, order=3)
    logits = random_logits(5, 1, 4, seed=5)
    options = {"language_model": ngram, "lm_weight": 0.8, "insertion_bonus": insertion_bonus}
    (found,) = prefix_beam(logits, torch.tensor([5]), beam=WIDE, n_best=WIDE, **options)
    expected = {}
    for text, probability in text_probabilities(logits[:, 0].softmax(-1)).items():
        state, score = ngram.start(), math.log(probability)
        for symbol in text:
            log_prob, state = ngram.score(state, symbol)
            score += 0.8 * log_prob + insertion_bonus
        expected[text] = score
    assert {tuple(one.ids): pytest.approx(one.score, rel=1e-9) for one in found} == expected
    assert tuple(found[0].ids) == max(expected, key=expected.get)


@pytest.mark.parametrize("part", [1, 6, 80])
def test_parts_say_what_the_whole_does(part):
    logits, length = random_logits(80, 1, 6, seed=3), torch.tensor([80])
    parts = [torch.empty(0, 6), *logits[:, 0].split(part)]
    found, (whole,) = best_path_in_parts(parts), best_path(logits, length)
    assert found == (whole.ids, pytest.approx(whole.log_prob), whole.frames, pytest.approx(whole.score))
    ngram = NGram([(1, 2, 1, 2), (3, 1)], num_symbols=6, order=3)
    for options in ({}, {"insertion_bonus": 0.5, "min_prob": 0.05}, {"language_model": ngram}):
        searched = prefix_beam_in_parts(parts, beam=5, n_best=3, **options)
        (expected,) = prefix_beam(logits, length, beam=5, n_best=3, **options)
        assert searched == [(one.ids, one.log_prob, one.score) for one in expected]


def test_parts_of_nothing_say_nothing():
    assert best_path_in_parts([]) == ([], 0.0, [], 0.0) and prefix_beam_in_parts([]) == [([], 0.0, 0.0)]
    with pytest.raises(ValueError, match="n_best must be from 1 to beam = 2, got 3"):
        prefix_beam_in_parts([], beam=2, n_best=3)


def test_a_search_forgets_what_leads_nowhere():
    frames = random_logits(400, 1, 6, seed=2).log_softmax(2).numpy()
    search, sizes = PrefixSearch(1, 6, Options(4, None, 0.0, 0.0, 0.0)), []
    for frame in frames:
        search.read(frame)
        sizes.append(len(search.tree.keys))
        search.forget()
    assert len(search.tree.keys) <= sum(len(text.ids) for text in search.texts(0, 4))
    assert max(sizes) - len(search.tree.keys) < 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"logits": torch.zeros(3, 2)}, r"logits must be floating point \(T, B, V\)"),
        ({"lengths": torch.tensor([4, 1])}, "lengths must be from 0 to T = 3, got 4 in row 0"),
        ({"logits": torch.full((3, 2, 4), math.nan)}, "logits of row 0 make no probabilities in frame 0"),
        ({"n_best": 17}, "n_best must be from 1 to beam = 16, got 17"),
        ({"beam": 0}, "n_best must be from 1 to beam = 0, got 1"),
        ({"min_prob": 1.0}, r"min_prob in \[0, 1\), got 0.5 and 1.0"),
        ({"lm_weight": -1.0}, "lm_weight must be at least 0"),
    ],
)
def test_what_does_not_fit_is_told(changes, message):
    arguments = {"logits": torch.zeros(3, 2, 4), "lengths": torch.tensor([3, 2]), **changes}
    with pytest.raises(ValueError, match=message):
        prefix_beam(**arguments)
