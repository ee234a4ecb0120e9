import pytest
import torch

from rnnlab.models.attention import Attention, Diagonal

S, U, B, H, M = 4, 3, 2, 5, 6


def by_hand(layer: Attention, query: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
    """Return the score of one query (H,) and one step (M,), as the papers write it."""
    if layer.kind == "dot":
        return query @ memory
    if layer.kind == "general":
        return query @ (layer.key.weight @ memory)
    weight = torch.cat([layer.query.weight, layer.key.weight], dim=1)  # of [query; memory]
    inside = weight @ torch.cat([query, memory])
    inside = inside if layer.key.bias is None else inside + layer.key.bias
    return layer.score.weight[0] @ torch.tanh(inside)


@pytest.mark.parametrize("kind", ["additive", "dot", "general", "concat"])
def test_weights_are_the_softmax_of_the_paper_s_scores(kind):
    torch.manual_seed(0)
    width = H if kind == "dot" else M
    layer = Attention(kind, H, width).double()
    assert {name for name, _ in layer.named_parameters() if "bias" in name} == (
        {"key.bias"} if kind == "concat" else set()
    )
    query, memory = torch.randn(U, B, H).double(), torch.randn(S, B, width).double()
    lengths = [4, 2]
    mask = (torch.arange(S)[:, None] < torch.tensor(lengths)).unsqueeze(2)
    context, weights = layer(query, layer.keys(memory), memory, mask.permute(1, 2, 0))
    for b, length in enumerate(lengths):
        for u in range(U):
            scores = torch.stack([by_hand(layer, query[u, b], memory[s, b]) for s in range(length)])
            expected = scores.softmax(0)
            torch.testing.assert_close(weights[b, u, :length], expected)
            torch.testing.assert_close(context[u, b], expected @ memory[:length, b])
            assert (weights[b, u, length:] == 0).all()


def test_what_cannot_be():
    with pytest.raises(ValueError, match="model.attention must be none, additive, dot, general or concat, got 'mlp'"):
        Attention("mlp", H, M)
    with pytest.raises(ValueError, match="dot needs an encoder as wide as the decoder, got 6 and 5; general"):
        Attention("dot", H, M)
    with pytest.raises(ValueError, match="attention_size must be an integer of at least 1 or null, got 0"):
        Attention("additive", H, M, 0)


def test_a_bias_is_added_to_the_scores():
    torch.manual_seed(0)
    layer, query, memory, bias = (
        Attention("general", H, M),
        torch.randn(U, B, H),
        torch.randn(S, B, M),
        torch.randn(B, U, S),
    )
    _, plain = layer(query, layer.keys(memory), memory)
    _, biased = layer(query, layer.keys(memory), memory, bias=bias)
    torch.testing.assert_close(biased, (plain.log() + bias).softmax(2))


def test_the_diagonal_stays_within_its_window_and_within_the_source():
    diagonal = Diagonal(1)
    near, bias = diagonal(torch.arange(4).unsqueeze(1), torch.tensor([[[4], [1]]]), 5)
    assert near[0].int().tolist() == [[1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 1, 1]]
    assert near[1].int().tolist() == [[1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 0, 0]]
    assert bias[0, 2].tolist()[1:4] == [-1, 0, -1]
    (bias * near).sum().backward()
    assert diagonal.bias.grad.tolist() == [6, 8, 8]
    assert Diagonal(0)(torch.zeros(1, 2, dtype=torch.long), torch.tensor([[[0], [2]]]), 3)[0].sum() == 2
