"""The tagger: a sentence is tagged as if it stood alone, and each part computes what its docstring says."""

from functools import partial

import pytest
import torch

import rnnlab.nn
from rnnlab.models import TCN
from rnnlab.models.tagger import CharCNN, CharLSTM, Tagger
from tests.models.sentences import SIZES, batch_of, spelling

SENTENCES = [[3, 0, 5], [1], [7, 7, 2, 9, 4, 8], [6, 0]]
EAGER = {"hidden_size": 6, "backend": "eager"}  # nothing to be compiled first
BIDIRECTIONAL = partial(rnnlab.nn.LSTM, bidirectional=True, **EAGER)
LAYERS = {
    "bidirectional LSTM": BIDIRECTIONAL,
    "two GRU layers": partial(rnnlab.nn.GRU, num_layers=2, **EAGER),
    "cell, both ways": partial(
        rnnlab.nn.Recurrent, partial(rnnlab.nn.LayerNormLSTMCell, hidden_size=6), bidirectional=True, backend="eager"
    ),
    "TCN": partial(TCN, hidden_size=6, num_layers=2),
    "scanned cell": partial(rnnlab.nn.Recurrent, partial(rnnlab.nn.MinGRUCell, hidden_size=6), backend="eager"),
}
layers = pytest.mark.parametrize("rnn", LAYERS.values(), ids=LAYERS)
encoders = pytest.mark.parametrize("encoder", ["lstm", "cnn", "none"])
SMALL = {"word_size": 5, "char_size": 3, "char_hidden": 4}


def tagger(rnn=BIDIRECTIONAL, **options):
    return Tagger(rnn, **SIZES, **{**SMALL, **options})


@layers
@encoders
def test_a_sentence_is_tagged_as_if_it_stood_alone(rnn, encoder):
    model = tagger(rnn, char_encoder=encoder).eval()
    emissions = model(batch_of(SENTENCES, width=25))
    assert emissions.shape == (4, 6, 4)
    for row, sentence in enumerate(SENTENCES):
        alone = model(batch_of([sentence]))
        torch.testing.assert_close(emissions[row : row + 1, : len(sentence)], alone)


@layers
@encoders
@pytest.mark.parametrize("crf", [False, True])
def test_every_parameter_learns_and_padding_does_not(rnn, encoder, crf):
    model, batch = tagger(rnn, char_encoder=encoder, crf=crf), batch_of(SENTENCES)
    emissions = model(batch)
    inside = (torch.arange(6) < batch.lengths[:, None]).unsqueeze(2)
    loss = emissions.masked_fill(~inside, 0).square().sum()
    if crf:
        loss = loss + model.crf.loss(emissions, batch.tags, batch.lengths).sum()
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().sum() > 0, name
    tables = [module for module in model.modules() if isinstance(module, torch.nn.Embedding)]
    assert len(tables) == (1 if encoder == "none" else 2)
    for table in tables:
        assert not table.weight[0].any() and not table.weight.grad[0].any()
        assert table.weight.grad[2:].any()


def numbers_read(model, batch):
    """Return the numbers of the words (T, B) that the model looks up."""
    found = []
    handle = model.words.register_forward_hook(lambda module, given, result: found.append(given[0]))
    model(batch)
    handle.remove()
    return found[0]


def test_word_dropout_reads_words_as_unknown_in_training_but_never_padding():
    batch = batch_of(SENTENCES * 200)
    words, is_word = batch.words.t(), batch.words.t() > 0
    model = tagger(word_dropout=0.25)
    read = numbers_read(model, batch)
    assert torch.equal(read[~is_word], words[~is_word])
    kept = read == words
    assert (read[~kept] == 1).all()
    assert (~kept)[is_word].float().mean() == pytest.approx(0.25, abs=0.03)
    assert torch.equal(numbers_read(model.eval(), batch), words)
    assert torch.equal(numbers_read(tagger(word_dropout=0.0), batch), words)


def test_dropout_acts_in_training_alone():
    model, batch = tagger(word_dropout=0.0, dropout=0.5), batch_of(SENTENCES)
    assert not torch.equal(model(batch), model(batch))
    model.eval()
    assert torch.equal(model(batch), model(batch))


def test_vectors_are_where_the_embedding_starts():
    vectors = torch.randn(12, 7)
    model = tagger(vectors=vectors)
    assert model.words.weight.shape == (12, 7) and model.rnn.input_size == 7 + 8
    assert torch.equal(model.words.weight[1:], vectors[1:]) and not model.words.weight[0].any()
    model(batch_of(SENTENCES)).sum().backward()
    assert model.words.weight.grad[2:].abs().sum() > 0
    with torch.no_grad():
        model.words.weight.zero_()
    assert vectors.any()  # a copy was taken


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"char_encoder": "gru"}, "char_encoder must be lstm, cnn or none, got 'gru'"),
        ({"dropout": 1.5}, r"model.dropout must lie in \[0, 1\), got 1.5"),
        ({"word_dropout": -0.1}, r"model.word_dropout must lie in \[0, 1\), got -0.1"),
        ({"vectors": torch.zeros(11, 5)}, r"vectors must be \(12, E\), one for each word, got \(11, 5\)"),
        ({"rnn": partial(rnnlab.nn.GRU, hidden_size=4, batch_first=True)}, "batch_first must be false"),
    ],
)
def test_what_cannot_be_built_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        tagger(**options)


def words_of(forms):
    batch = batch_of([forms])
    order = batch.forms[0]
    return batch.chars[order], batch.char_lengths[order]


def test_char_lstm_is_a_bidirectional_layer_read_at_its_ends():
    encoder, layer = CharLSTM(9, 3, 4), torch.nn.LSTM(3, 4, bidirectional=True)
    weights = {name: weight for name, weight in encoder.onwards.named_parameters()}
    weights |= {f"{name}_reverse": weight for name, weight in encoder.backwards.named_parameters()}
    chars, lengths = words_of(list(range(10)))  # of 1 to 17 characters, out of order
    assert lengths.min() == 1 and lengths.max() == 17

    features = encoder(chars, lengths)
    packed = torch.nn.utils.rnn.pack_padded_sequence(encoder.embedding(chars.t()), lengths, enforce_sorted=False)
    _, (h_n, _) = torch.func.functional_call(layer, weights, (packed,))
    expected = torch.cat([h_n[0], h_n[1]], dim=1)
    torch.testing.assert_close(features, expected)
    upstream, parameters = torch.randn_like(expected), list(encoder.parameters())
    found = torch.autograd.grad(features, parameters, upstream)
    for ours, theirs in zip(found, torch.autograd.grad(expected, parameters, upstream), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_char_cnn_takes_the_highest_value_within_the_word():
    encoder = CharCNN(9, 3, 4)
    chars, lengths = words_of([0, 5, 2])
    features = encoder(chars, lengths)
    for row, form in enumerate([0, 5, 2]):
        x = torch.cat([torch.zeros(1, 3), encoder.embedding(torch.tensor(spelling(form))), torch.zeros(1, 3)])
        values = [
            (encoder.convolution.weight * x[step : step + 3].T).sum((1, 2)) + encoder.convolution.bias
            for step in range(len(x) - 2)
        ]
        torch.testing.assert_close(features[row], torch.stack(values).amax(0))


@pytest.mark.parametrize("encoder", [CharLSTM, CharCNN])
def test_characters_are_read_alike_in_any_company(encoder):
    module = encoder(9, 3, 4)
    chars, lengths = words_of(list(range(10)))
    features = module(chars, lengths)
    assert features.shape == (10, module.width)
    for row, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(
            features[row : row + 1], module(chars[row : row + 1, :length], lengths[row : row + 1])
        )


def test_decode_takes_the_best_tag_or_the_best_sentence():
    batch = batch_of(SENTENCES)
    model = tagger().eval()
    assert torch.equal(model.decode(batch), model(batch).argmax(-1))
    model = tagger(crf=True).eval()
    torch.nn.init.normal_(model.crf.transitions, std=3.0)
    tags = model.decode(batch)
    assert torch.equal(tags, model.crf.decode(model(batch), batch.lengths))
    inside = torch.arange(6) < batch.lengths[:, None]
    assert (tags != model(batch).argmax(-1))[inside].any()


def test_init_reaches_every_recurrent_layer_and_the_head():
    model = tagger(init={"input": "glorot", "recurrent": "orthogonal", "bias": "zeros", "forget_bias": 1.0})
    for layer, hidden in ((model.rnn, 6), (model.characters.onwards, 4), (model.characters.backwards, 4)):
        torch.testing.assert_close(layer.weight_hh_l0.T @ layer.weight_hh_l0, torch.eye(hidden))
        assert layer.bias_ih_l0[hidden : 2 * hidden].tolist() == [1.0] * hidden
    assert not model.head.bias.any()


def test_a_batch_may_be_one_character():
    batch = batch_of([[0], [0]], unseen=(0,))
    assert batch.chars.shape == (1, 1)
    for encoder in ("lstm", "cnn"):
        assert tagger(char_encoder=encoder)(batch).shape == (2, 1, 4)
