"""Answers of encoder-decoder models, against a plain search of one source at a time and the enumeration of all."""

import functools
import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import rnnlab.nn
from rnnlab.decoding import Hypothesis, greedy, sample_translations, translate
from rnnlab.decoding.search import largest, normalisation, search
from rnnlab.decoding.symbols import END, PADDING, START
from rnnlab.decoding.translation import BANNED
from rnnlab.models import EncoderDecoder, TransformerSeq2Seq
from tests.decoding.models import Fixed, Translator, recurrent

VOCABULARY = 8
SOURCE = torch.tensor(
    [[4, 6, 5, 5, 7], [7, 7, 7, 0, 0], [5, 0, 0, 0, 0], [6, 4, 0, 0, 0], [4, 4, 7, 6, 0], [7, 5, 4, 6, 6]]
)
LENGTHS = torch.tensor([5, 3, 1, 2, 4, 5])
INF, NAN = math.inf, math.nan


@torch.no_grad()
def plain_beam(model, source, limit, beam, alpha=0.0, n_best=1, banned=BANNED):
    """Return what the search should find for one source (S,), each hypothesis a tuple with a state of its own."""
    memory = model.encode(source[None], torch.tensor([len(source)]))
    live, finished = [((), 0.0, START, model.initial_state(memory))], []
    for length in range(1, limit + 1):
        extended = []
        for ids, total, last, state in live:
            logits, state = model.step(torch.tensor([last]), state, memory)
            for symbol, log_prob in enumerate(logits[0].log_softmax(-1).tolist()):
                if symbol not in banned and log_prob > -INF:
                    extended.append(((*ids, symbol), total + log_prob, symbol, state))
        extended.sort(key=lambda hypothesis: -hypothesis[1])
        live = []
        for ids, total, last, state in extended[: beam - len(finished)]:
            if last == END:
                finished.append(Hypothesis(ids[:-1], total, total * normalisation(length, alpha)))
            else:
                live.append((ids, total, last, state))
        scores = sorted((hypothesis.score for hypothesis in finished), reverse=True)
        is_settled = len(scores) >= n_best and live and scores[n_best - 1] >= live[0][1] * normalisation(limit, alpha)
        if not live or is_settled:
            live = []
            break
    finished += [Hypothesis(ids, total, total * normalisation(limit, alpha)) for ids, total, _, _ in live]
    return sorted(finished, key=lambda hypothesis: -hypothesis.score)[:n_best]


def everything(model, source, limit):
    """Return the log-probability of each answer there is to one source, by its symbols."""
    return {found.ids: found.log_prob for found in plain_beam(model, source, limit, 10**6, n_best=10**6)}


def sources():
    return [source[:length] for source, length in zip(SOURCE, LENGTHS, strict=True)]


def assert_same(found, expected):
    assert [each.ids for each in found] == [each.ids for each in expected]
    for each, other in zip(found, expected, strict=True):
        assert each.log_prob == pytest.approx(other.log_prob, rel=1e-9, abs=1e-12)
        assert each.score == pytest.approx(other.score, rel=1e-9, abs=1e-12)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    beam=st.integers(1, 12),  # five symbols may be chosen
    data=st.data(),
    alpha=st.sampled_from([0.0, 0.6, 1.0, 3.0]),
    limits=st.lists(st.integers(1, 9), min_size=6, max_size=6),
)
def test_a_batch_finds_what_a_plain_search_finds_in_each_row(seed, beam, data, alpha, limits):
    model = Translator(VOCABULARY, seed=seed, scale=0.6)
    n_best = data.draw(st.integers(1, beam))
    options = {"beam": beam, "n_best": n_best, "length_penalty": alpha}
    found = translate(model, SOURCE, LENGTHS, max_length=limits, **options)
    for row, (source, limit) in enumerate(zip(sources(), limits, strict=True)):
        assert_same(found[row], plain_beam(model, source, limit, beam, alpha, n_best))
        alone = translate(model, source[None], LENGTHS[row : row + 1], max_length=limit, **options)
        assert_same(found[row], alone[0])


LSTM = functools.partial(rnnlab.nn.LSTM, hidden_size=6, num_layers=2)
MODELS = {
    "state alone": lambda: EncoderDecoder(LSTM, 8, 8, attention="none"),
    "input feeding": lambda: EncoderDecoder(LSTM, 8, 8, attention="additive", input_feeding=True),
    "complex state": lambda: EncoderDecoder(LSTM, 8, 8, recurrent(rnnlab.nn.LRUCell), attention="general"),
    "transformer": lambda: TransformerSeq2Seq(8, 8, width=16, feed_forward=16, num_layers=2),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_of_every_kind_are_searched_alike(name):
    torch.manual_seed(0)
    model = MODELS[name]().double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)  # else all symbols are equally likely
    limits = [7, 7, 7, 2, 4, 7]
    for beam, n_best in ((1, 1), (3, 1), (9, 4)):
        found = translate(model, SOURCE, LENGTHS, max_length=limits, beam=beam, n_best=n_best, length_penalty=0.6)
        for row, (source, limit) in enumerate(zip(sources(), limits, strict=True)):
            assert_same(found[row], plain_beam(model, source, limit, beam, 0.6, n_best))


@pytest.mark.parametrize("alpha", [0.0, 0.7])
def test_an_infinite_beam_finds_everything_in_order(alpha):
    model = Translator(6, seed=3, scale=0.6)  # two symbols and END
    source, lengths, limits = torch.tensor([[4, 5], [5, 0], [4, 4]]), torch.tensor([2, 1, 2]), [5, 4, 1]
    found = translate(model, source, lengths, max_length=limits, beam=1000, n_best=1000, length_penalty=alpha)
    for row, limit in enumerate(limits):
        expected = everything(model, source[row, : lengths[row]], limit)
        answers = itertools.chain(*(itertools.product((4, 5), repeat=n) for n in range(limit + 1)))
        assert {each.ids for each in found[row]} == set(expected) == set(answers)
        assert len(found[row]) == len(expected)
        for ids, log_prob, score in found[row]:
            assert log_prob == pytest.approx(expected[ids], rel=1e-9)
            length = min(len(ids) + 1, limit)
            assert score == pytest.approx(log_prob / ((5 + length) / 6) ** alpha, rel=1e-12)
        assert all(a.score >= b.score for a, b in itertools.pairwise(found[row]))


def test_every_answer_ends_or_comes_to_its_limit():
    """So the probabilities of all answers sum to one."""
    model = Translator(6, seed=1)
    found = translate(model, SOURCE[2:3, :1], LENGTHS[2:3], max_length=3, beam=1000, n_best=1000, banned=())
    assert sum(math.exp(each.log_prob) for each in found[0]) == pytest.approx(1, rel=1e-12)
    assert len(found[0]) == 1 + 5 + 25 + 125


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6), limits=st.lists(st.integers(1, 9), min_size=6, max_size=6))
def test_greedy_takes_the_likeliest_symbol(seed, limits):
    model = Translator(VOCABULARY, seed=seed)
    ids = greedy(model, SOURCE, LENGTHS, max_length=torch.tensor(limits))
    assert ids.dtype == torch.int64
    best = translate(model, SOURCE, LENGTHS, max_length=limits, length_penalty=1.0)
    longest = 0
    for row, (source, limit) in enumerate(zip(sources(), limits, strict=True)):
        (expected,) = plain_beam(model, source, limit, 1, alpha=1.0)
        is_over = len(expected.ids) < limit
        answer = [*expected.ids, *([END] if is_over else [])]
        assert ids[row].tolist() == answer + [PADDING] * (ids.shape[1] - len(answer))
        assert_same(best[row], [expected])
        longest = max(longest, len(answer))
    assert ids.shape == (6, longest)
    assert torch.equal(ids, sample_translations(model, SOURCE, LENGTHS, max_length=limits, temperature=0))
    assert torch.equal(ids, sample_translations(model, SOURCE, LENGTHS, max_length=limits, top_k=1))


def table(*rows):
    """Return a model with these probabilities of END and the symbols behind it, for sources that begin with 0, 1..."""
    logs = [[-INF] * 3 + [math.log(value) if value else -INF for value in row] for row in rows]
    return Fixed(logs), torch.arange(len(rows))[:, None], torch.ones(len(rows), dtype=torch.int64)


@pytest.mark.parametrize("beam", [1, 3])
def test_end_at_once_and_never(beam):
    model, source, lengths = table([0.7, 0.2, 0.1], [0.0, 0.6, 0.4], [0.1, 0.6, 0.3])
    first, second, third = translate(model, source, lengths, max_length=6, beam=beam)
    assert first[0].ids == () and first[0].log_prob == pytest.approx(math.log(0.7))
    assert second[0].ids == (4,) * 6 and second[0].log_prob == pytest.approx(6 * math.log(0.6))
    assert third[0].ids == ((4,) * 6 if beam == 1 else ())
    banned = translate(model, source, lengths, max_length=3, beam=beam, n_best=beam, banned=(*BANNED, END))
    assert all(len(found.ids) == 3 for row in banned for found in row)
    assert banned[0][0].log_prob == pytest.approx(3 * math.log(0.2)), "others keep their share"


def test_only_end_is_left():
    """A source with one answer has one, however wide the beam."""
    model, source, lengths = table([1.0, 0.0, 0.0], [0.5, 0.25, 0.25])
    first, second = translate(model, source, lengths, max_length=3, beam=4, n_best=4)
    assert first == [((), 0.0, 0.0)]
    assert [found.ids for found in second][0] == () and len({found.ids for found in second}) == 4


def test_a_finished_hypothesis_is_never_picked_again():
    model, source, lengths = table([0.6, 0.3, 0.1], [0.4, 0.3, 0.3])
    for row in translate(model, source, lengths, max_length=7, beam=8, n_best=8, length_penalty=1.5):
        assert len({found.ids for found in row}) == len(row) == 8
        assert all(END not in found.ids for found in row)


def test_a_live_hypothesis_may_still_gain_by_its_length():
    model, source, lengths = table([0.55, 0.45])
    (found,) = translate(model, source, lengths, max_length=2, beam=2, length_penalty=8.0)
    assert found[0].ids == (4,)


def test_nothing_stands_behind_the_end_of_a_hypothesis():
    model, source, lengths = table([0.6, 0.3, 0.1])
    memory = model.encode(source, lengths)
    logits, _ = model.step(source[:, 0], None, memory)
    found = search(model.step, logits, None, memory, torch.tensor([3]), beam=3, n_best=3, ending=(END,))
    behind = torch.arange(found.ids.shape[2]) >= found.lengths[:, :, None]
    assert behind.any() and not found.ids[behind].any()


def test_of_equals_the_first():
    """Ties go to the better hypothesis, then to the lower symbol, whatever stands beside the source."""
    model, source, lengths = table([0.0, 0.25, 0.25, 0.25, 0.25], [0.2] * 5)
    for rows in ([0], [0, 1], [1, 0, 0]):
        found = translate(model, source[rows], lengths[rows], max_length=2, beam=3, n_best=3)[rows.index(0)]
        assert [each.ids for each in found] == [(4, 4), (4, 5), (4, 6)]
    assert greedy(model, source, lengths, max_length=2).tolist() == [[4, 4], [3, 0]]


@settings(deadline=None)
@given(
    rows=st.lists(
        st.lists(st.sampled_from([-INF, -2.0, -1.0, 0.0, 0.5]), min_size=9, max_size=9), min_size=1, max_size=4
    ),
    count=st.integers(1, 9),
)
def test_the_largest_are_those_of_a_stable_sort(rows, count):
    values = torch.tensor(rows, dtype=torch.float64)
    found, places = largest(values, count)
    expected, order = values.sort(dim=1, descending=True, stable=True)
    assert torch.equal(found, expected[:, :count]) and torch.equal(values.gather(1, places), found)
    matters = found > -INF
    assert torch.equal(places[matters], order[:, :count][matters])


def test_what_is_settled_leaves_the_batch():
    """Rows go when a quarter are over: those of the memory with them, which `Fixed` would show."""
    rows = [[0.98, 0.01, 0.01], [0.96, 0.02, 0.02], [0.97, 0.02, 0.01], [0.0, 0.6, 0.4], [0.0, 0.3, 0.7]]
    model, source, lengths = table(*rows)
    limits = [9, 9, 9, 5, 3]
    ids = greedy(model, source, lengths, max_length=limits)
    assert model.calls == [5, 2, 2, 1, 1]
    assert ids.tolist() == [[3, 0, 0, 0, 0]] * 3 + [[4, 4, 4, 4, 4], [5, 5, 5, 0, 0]]
    model.calls.clear()
    found = translate(model, source, lengths, max_length=limits, beam=2)
    assert [row[0].ids for row in found] == [(), (), (), (4,) * 5, (5,) * 3]
    assert model.calls == [5, 4, 4, 2, 2]


@pytest.mark.parametrize("function", [greedy, translate, sample_translations])
def test_looking_less_often_changes_nothing(function, monkeypatch):
    """As on a GPU: rows that are over stay for some steps."""
    model = Translator(VOCABULARY, seed=5)
    expected = function(model, SOURCE, LENGTHS, max_length=[3, 20, 20, 1, 9, 20])
    monkeypatch.setattr("rnnlab.decoding.walk.steps_between_looks", lambda device: 8)
    found = function(model, SOURCE, LENGTHS, max_length=[3, 20, 20, 1, 9, 20])
    assert torch.equal(found, expected) if isinstance(found, torch.Tensor) else found == expected


@pytest.mark.parametrize("function", [greedy, translate, sample_translations])
def test_looking_less_often_looks_at_the_end(function, monkeypatch):
    monkeypatch.setattr("rnnlab.decoding.walk.steps_between_looks", lambda device: 8)
    with pytest.raises(ValueError, match="no symbol to choose"):
        function(Fixed([[0.0] * 5 + [NAN]]), torch.tensor([[0]]), torch.tensor([1]), max_length=3)


class AfterEnd(Fixed):
    """Has no answer to a symbol behind END, which nobody should ask for."""

    def step(self, symbols, state, memory):
        logits, state = super().step(symbols, state, memory)
        return logits.masked_fill((symbols == END)[:, None], NAN), state


def test_what_the_model_makes_of_rows_that_are_over_does_not_matter():
    fixed, source, lengths = table([0.9, 0.1], [0.0, 1.0], [0.0, 1.0])
    model = AfterEnd(fixed.table.detach())
    assert greedy(model, source, lengths, max_length=4).tolist() == [[3, 0, 0, 0], [4] * 4, [4] * 4]
    assert sample_translations(model, source, lengths, max_length=4, top_k=1)[1:].tolist() == [[4] * 4] * 2
    found = translate(model, source, lengths, max_length=4, beam=3, n_best=2)
    assert [[each.ids for each in row] for row in found] == [[(), (4,)], [(4,) * 4], [(4,) * 4]]


@pytest.mark.parametrize("value", [NAN, INF])
@pytest.mark.parametrize("call", [greedy, translate, sample_translations, lambda *a, **b: translate(*a, beam=3, **b)])
def test_logits_that_are_not_finite_are_refused(call, value):
    model = Fixed([[0.0] * 6, [0.0] * 5 + [value]])
    with pytest.raises(ValueError, match="no symbol to choose: the model's logits are not finite, or every symbol is"):
        call(model, torch.tensor([[0], [1]]), torch.tensor([1, 1]), max_length=3)
    with pytest.raises(ValueError, match="or every symbol is banned"):
        call(model, torch.tensor([[0]]), torch.tensor([1]), max_length=3, banned=range(6))


def test_draws_depend_on_nothing_beside_a_row():
    model = Translator(VOCABULARY, seed=2, scale=0.4)
    many = sample_translations(model, SOURCE, LENGTHS, max_length=30, seed=4)
    for rows in (1, 3):
        some = sample_translations(model, SOURCE[:rows], LENGTHS[:rows], max_length=30, seed=4)
        assert torch.equal(some, many[:rows, : some.shape[1]]) and not many[:rows, some.shape[1] :].any()
    assert not torch.equal(many, sample_translations(model, SOURCE, LENGTHS, max_length=30, seed=5))
    assert not set(many.flatten().tolist()) & {START, 1}


def test_frequencies_of_draws_follow_the_model():
    """Pearson's statistic stays below its 99.9% quantile at two degrees of freedom."""
    model, source, _ = table([0.5, 0.2, 0.3])
    ids = sample_translations(model, source.expand(4000, 1), torch.ones(4000), max_length=2)
    means = 4000 * torch.tensor([0.5, 0.2, 0.3])
    assert ((ids[:, 0].bincount(minlength=6)[3:] - means) ** 2 / means).sum() < 13.8
    assert (ids[ids[:, 0] == END, 1] == PADDING).all() and (ids[ids[:, 0] != END, 1] >= END).all()


@torch.no_grad()
@pytest.mark.parametrize("beam", [1, 4])
def test_log_probabilities_of_a_half_precision_model_are_taken_in_float32(beam):
    model = Translator(VOCABULARY, dtype=torch.bfloat16)
    for row, source in zip(translate(model, SOURCE, LENGTHS, max_length=8, beam=beam), sources(), strict=True):
        memory = model.encode(source[None], torch.tensor([len(source)]))
        state, total = model.initial_state(memory), 0.0
        ids = [*row[0].ids, *([END] if len(row[0].ids) < 8 else [])]
        for before, symbol in itertools.pairwise([START, *ids]):
            logits, state = model.step(torch.tensor([before]), state, memory)
            total += float(logits[0].double().log_softmax(-1)[symbol])
        assert row[0].log_prob == pytest.approx(total, rel=1e-5)


def test_the_model_is_left_as_it_was():
    model = Translator(VOCABULARY)
    model.train()
    before = torch.get_rng_state()
    for beam in (1, 3):
        translate(model, SOURCE, LENGTHS, max_length=4, beam=beam)
    chosen = [call(model, SOURCE, LENGTHS, max_length=4) for call in (greedy, sample_translations)]
    assert model.training and torch.equal(torch.get_rng_state(), before)
    for ids in chosen:
        torch.nn.functional.embedding(ids, model.targets).sum().backward()  # what is chosen can be trained on


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 0}, "max_length must be an integer of at least 1, got 0"),
        ({"max_length": [4, 0]}, "max_length must be an integer of at least 1, got 0"),
        ({"max_length": torch.tensor([4.0, 1.0])}, "max_length must be an integer of at least 1, got 4.0"),
        ({"max_length": [4]}, "max_length must be a number, or one for each of 2 sources, got shape (1,)"),
        ({"beam": 0}, "beam must be an integer of at least 1, got 0"),
        ({"n_best": 0}, "n_best must be an integer of at least 1, got 0"),
        ({"n_best": 2}, "n_best must be at most the width of the beam, 1, got 2"),
        ({"beam": 3, "n_best": 4}, "n_best must be at most the width of the beam, 3, got 4"),
        ({"length_penalty": -1.0}, "length_penalty must be a finite number of at least 0, got -1.0"),
    ],
    ids=str,
)
def test_arguments_are_checked(options, message):
    with pytest.raises(ValueError) as error:
        translate(Translator(VOCABULARY), SOURCE[:2], LENGTHS[:2], **{"max_length": 3, **options})
    assert str(error.value) == message
