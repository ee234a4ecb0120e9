"""Time-delay networks and TCNs: what they see and what not, in the places where recurrent layers stand."""

from functools import partial

import pytest
import torch

from rnnlab.models import TCN, CharLM, Classifier, EncoderDecoder, Forecaster, TimeDelay, Transcriber

LAYERS = {
    "time-delay": partial(TimeDelay, hidden_size=6, taps=4),
    "deep time-delay": partial(TimeDelay, hidden_size=6, taps=3, num_layers=3),
    "TCN": partial(TCN, hidden_size=6, num_layers=2, kernel_size=3),
    "narrow TCN": partial(TCN, hidden_size=1, num_layers=3, kernel_size=2),
}
layers = pytest.mark.parametrize("rnn", LAYERS.values(), ids=LAYERS)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(1)


@layers
def test_memory_ends_with_the_receptive_field(rnn):
    """A change of the input reaches the outputs from its own step on, as many as the field has, and no other."""
    layer = rnn(input_size=1)
    x = torch.zeros(40, 1, 1)
    with torch.no_grad():
        for bias in (parameter for name, parameter in layer.named_parameters() if name.endswith("bias")):
            bias.uniform_(0.5, 1.0)  # so that rectified units of one row pass a change on
        for weight in (parameter for name, parameter in layer.named_parameters() if name.endswith("weight")):
            weight.abs_()
        before = layer(x)[0]
        x[10] = 1.0
        reached = (layer(x)[0] != before).any(2)[:, 0].nonzero()[:, 0].tolist()
    assert reached == list(range(10, 10 + layer.receptive_field))


@pytest.mark.parametrize(
    ("layer", "field"),
    [
        (TimeDelay(1, 2, taps=1), 1),
        (TimeDelay(1, 2, taps=50), 50),
        (TimeDelay(1, 2, taps=5, num_layers=3), 13),
        (TCN(1, 2, num_layers=4, kernel_size=3), 61),
        (TCN(1, 2, num_layers=1, kernel_size=1), 1),
    ],
)
def test_receptive_fields(layer, field):
    assert layer.receptive_field == field


def test_a_time_delay_network_is_a_product_with_the_window():
    layer = TimeDelay(2, 3, taps=4)
    x = torch.randn(6, 5, 2)
    padded = torch.cat([torch.zeros(3, 5, 2), x])
    weight = layer.layers[0].weight  # (H, I, taps), the latest step last
    expected = [torch.einsum("hip,pbi->bh", weight, padded[t : t + 4]) + layer.layers[0].bias for t in range(6)]
    torch.testing.assert_close(layer(x)[0], torch.stack(expected).tanh())


@layers
def test_lengths_leave_rows_alone_and_padding_zero(rnn):
    layer, x = rnn(input_size=2), torch.randn(9, 3, 2)
    output, state = layer(x, lengths=torch.tensor([9, 4, 0]))
    assert state is None
    torch.testing.assert_close(output[:4, 1], layer(x[:4])[0][:, 1])
    assert not output[4:, 1].any() and not output[:, 2].any()


@layers
@pytest.mark.parametrize("all_steps", [False, True])
def test_forecaster_takes_them(rnn, all_steps):
    model = Forecaster(rnn, 1, 10, all_steps=all_steps, init={"input": "glorot", "recurrent": "orthogonal"})
    x = torch.randn(4, 30, 1)
    forecast = model(x)
    assert forecast.shape == ((4, 30, 10) if all_steps else (4, 10))
    forecast.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    changed = x.clone()
    changed[:, : 30 - model.rnn.receptive_field] += 1
    last = slice(None) if not all_steps else (slice(None), -1)
    torch.testing.assert_close(model(changed)[last], forecast[last])


@layers
def test_classifier_takes_them(rnn):
    model = Classifier(rnn, input_size=3, num_classes=4).eval()
    x = torch.randn(9, 2, 3)
    scores = model(x, torch.tensor([9, 5]))
    torch.testing.assert_close(scores[1:], model(x[:5, 1:], torch.tensor([5])))


@layers
def test_where_a_state_is_carried_they_are_refused(rnn):
    reason = r"carries no state, it sees \d+ steps at once: it cannot go on where it stopped, as data.tbptt_steps"
    with pytest.raises(ValueError, match=reason):
        Forecaster(rnn, 1, 1, all_steps=True).initial_state(2)
    with pytest.raises(ValueError, match=reason):
        CharLM(rnn, vocab_size=5).initial_state(2)
    with pytest.raises(ValueError, match=reason):
        rnn(input_size=1)(torch.zeros(2, 1, 1), (torch.zeros(1, 1, 6),))
    with pytest.raises(ValueError, match=reason):
        EncoderDecoder(rnn, source_size=5, target_size=5)
    transcriber = Transcriber(rnn, num_features=2, num_classes=3)
    assert not transcriber.streams
    with pytest.raises(ValueError, match="time-delay networks and TCNs carry no state"):
        transcriber.step(torch.zeros(2, 1, 2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(TimeDelay, 1, 4, taps=0), "taps must be at least 1"),
        (partial(TimeDelay, 1, 4, taps=2, nonlinearity="linear"), "Unknown nonlinearity='linear'"),
        (partial(TCN, 1, 4, num_layers=0), "num_layers must be at least 1"),
        (partial(TCN, 1, 4, bidirectional=True), "TCN sees the past alone: rnn.bidirectional must be false"),
        (partial(TCN, 1, 4, dropout=1.0), r"rnn.dropout must lie in \[0, 1\), got 1.0"),
    ],
)
def test_arguments_are_checked(make, message):
    with pytest.raises(ValueError, match=message):
        make()
