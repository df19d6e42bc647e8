"""What a device has no kernels for is refused, and what flows between the layers."""

import pytest
import torch

from engines.chatterbox.fleet import default_precision
from engines.chatterbox.t3 import linear

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_int8_is_refused_where_only_the_cpu_has_it():
    with pytest.raises(ValueError, match="int8"):
        linear.packer("int8", CUDA)


def test_a_graphics_card_carries_what_its_weights_are_made_of():
    assert linear.stream_dtype("fp16", CUDA) == torch.float16
    assert linear.stream_dtype("fp32", CUDA) == torch.float32
    assert linear.stream_dtype("fp16", CPU) == torch.float32


def test_processors_take_weights_of_8_bits_if_nothing_else_is_asked_for():
    assert default_precision(CPU) == "int8"
    assert default_precision(torch.device("mps")) == "fp32"
