"""The kernels of each precision multiply, and what a device has no kernel for is refused."""

import pytest
import torch
import torch.nn.functional as F

from engines.chatterbox.t3 import linear

CPU = torch.device("cpu")


@pytest.mark.parametrize(("precision", "error"), [("fp32", 1e-6), ("fp16", 2e-3), ("bf16", 2e-2), ("int8", 1e-2)])
@pytest.mark.parametrize("rows", [1, 2, 5, 40])
@pytest.mark.parametrize("has_bias", [True, False])
def test_every_kernel_multiplies_and_adds_the_bias(precision, error, rows, has_bias):
    torch.manual_seed(1)
    weight, bias, x = torch.randn(96, 64), torch.randn(96) if has_bias else None, torch.randn(rows, 64)

    product = linear.packer(precision, CPU)(weight, bias)(x)

    expected = F.linear(x, weight, bias)
    assert product.dtype == torch.float32
    assert product.is_contiguous()
    assert (product - expected).norm() <= error * expected.norm()


@pytest.fixture(params=[True, False], ids=["as on AMX", "as without"])
def either_kernel(request, monkeypatch):
    if request.param and not torch.cpu._is_amx_tile_supported():
        pytest.skip("this processor has no AMX")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: request.param)


def test_in_int8_a_row_is_the_same_to_the_bit_whatever_the_others_are(either_kernel):
    torch.manual_seed(2)
    multiply = linear.packer("int8", CPU)(torch.randn(96, 1024), torch.randn(96))
    x = torch.randn(70, 1024)
    x[1] *= 1e4
    together = multiply(x)

    for first, count in [(0, 1), (0, 2), (1, 2), (5, 4), (40, 1), (3, 33)]:
        assert torch.equal(multiply(x[first : first + count]), together[first : first + count])


def test_in_int8_a_few_great_activations_do_not_drown_the_others(either_kernel):
    torch.manual_seed(3)
    weight, x = torch.randn(96, 1024), torch.randn(6, 1024)
    x[:, :4] *= 100
    x[5] = 0
    weight[:, :4] = 0  # so that only the others are heard

    product = linear.packer("int8", CPU)(weight, None)(x)

    expected = F.linear(x, weight)
    assert (product - expected).norm() <= 1e-2 * expected.norm()
    assert not product[5].any()


def test_int8_is_refused_where_only_the_cpu_has_it():
    with pytest.raises(ValueError, match="int8"):
        linear.usable_precision("int8", torch.device("cuda"))


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_without_fbgemm_the_weights_stay_float32(precision, monkeypatch):
    monkeypatch.setattr(linear, "FBGEMM_ENGINES", ())

    assert linear.usable_precision(precision, CPU) == "fp32"
    assert linear.usable_precision("bf16", CPU) == "bf16"


def test_a_graphics_card_carries_what_its_weights_are_made_of():
    assert linear.stream_dtype("fp16", torch.device("cuda")) == torch.float16
    assert linear.stream_dtype("fp32", torch.device("cuda")) == torch.float32
    assert linear.stream_dtype("fp16", CPU) == torch.float32
