"""The kernel that attends on NVIDIA devices: that it can be compiled is seen without one."""

import pytest

pytest.importorskip("cuda.bindings.nvrtc")

from engines.chatterbox.t3.kernel import KernelUnavailable, compiled

SCALARS = {"float32": (32, 0), "float16": (16, 0), "bfloat16": (16, 1)}


@pytest.mark.parametrize("architecture", ["sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_120"])
@pytest.mark.parametrize("scalar", SCALARS)
@pytest.mark.parametrize(("is_rotary", "head_dim"), [(1, 64), (0, 64), (1, 16)], ids=["llama", "gpt2", "small"])
def test_it_is_compiled_for_every_device_of_the_last_years(architecture, scalar, is_rotary, head_dim):
    bits, is_bfloat16 = SCALARS[scalar]
    defined = {"HEAD_DIM": head_dim, "SCALAR_BITS": bits, "IS_BFLOAT16": is_bfloat16, "IS_ROTARY": is_rotary}

    code = compiled(architecture, **defined)

    assert code.startswith(b"\x7fELF")
    assert b"attend" in code


def test_what_cannot_be_compiled_is_said_so_that_another_way_can_be_taken():
    with pytest.raises(KernelUnavailable, match="nvrtc"):
        compiled("sm_1", HEAD_DIM=64, SCALAR_BITS=16, IS_BFLOAT16=1, IS_ROTARY=1)
