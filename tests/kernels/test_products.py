"""Products and scratch memory of the eager schedule."""

import pytest
import torch

from rnnlab_kernels.schedules.stepwise import products


@pytest.mark.parametrize("with_bias", [False, True])
def test_onednn_product_is_the_product(with_bias, monkeypatch):
    monkeypatch.setattr(products, "MIN_MULTIPLICATIONS", 0)
    x, weight = torch.randn(5, 7), torch.randn(7, 6).t()
    bias = torch.randn(6) if with_bias else None
    assert products.takes(weight) == torch.backends.mkldnn.is_available()
    torch.testing.assert_close(products.bind_product(weight, 5, bias)(x), torch.nn.functional.linear(x, weight, bias))
    addend = torch.randn(5, 6)
    torch.testing.assert_close(products.bind_product_added(weight, 5)(x, addend.clone()), x @ weight.t() + addend)


@pytest.mark.parametrize("columns", [3, 70])
def test_weight_gradient_is_the_product(columns, monkeypatch):
    monkeypatch.setattr(products, "MIN_MULTIPLICATIONS", 0)
    dy, x = torch.randn(11, 20)[:, :6], torch.randn(11, columns)
    torch.testing.assert_close(products.weight_gradient(dy, x), dy.t() @ x)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("block", [1, 100])
def test_blockwise_yields_every_step_in_the_order_of_the_walk(reverse, block, monkeypatch):
    monkeypatch.setattr(products, "MAX_BLOCK_ELEMENTS", block)
    x = torch.randn(7, 2, 3)
    steps = list(products.blockwise(lambda part: 2 * part, x, 3, reverse))
    torch.testing.assert_close(torch.stack(steps[::-1] if reverse else steps), 2 * x)


def test_scratch_is_kept_and_grows():
    like = torch.empty(0)
    first = products.scratch("test", like, 4, 5)
    assert products.scratch("test", like, 2, 5).data_ptr() == first.data_ptr()
    assert products.scratch("test", like, 40, 5).shape == (40, 5)
    assert products.scratch("test", like.double(), 4, 5).dtype == torch.float64


def test_scratch_of_inference_mode_is_not_kept():
    with torch.inference_mode():
        products.scratch("inference", torch.empty(0), 3)
    kept = products.scratch("inference", torch.empty(0), 3)
    assert not kept.is_inference()
    kept.fill_(1.0)
