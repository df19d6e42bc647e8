"""Which device the models are on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from resilience.errors import ModelUnavailable


def device_of(name: str) -> torch.device:
    """The device of that name, made ready; `auto` is a GPU if there is one.

    Raises ModelUnavailable for one that is not there.
    """
    device = _best() if name == "auto" else torch.device(name)
    is_there = {
        "cpu": lambda: True,
        "mps": torch.backends.mps.is_available,
        "cuda": lambda: (device.index or 0) < torch.cuda.device_count(),
    }[device.type]
    if not is_there():
        raise ModelUnavailable(f"there is no device {name} on this machine", retry_after_s=10)
    if device.type == "cuda":
        # On Hopper torch prefers cuDNN's attention, which is compiled anew for every length that it meets: a third of a
        # second for each text and each utterance. The other kernels take what comes.
        torch.backends.cuda.enable_cudnn_sdp(False)
    return device


def has_bfloat16(device: torch.device) -> bool:
    """Whether a CUDA device computes in bfloat16 by itself, as those since Ampere do."""
    with torch.cuda.device(device):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def has_amx() -> bool:
    """Whether the processor has matrix units (Intel's AMX)."""
    return bool(torch.cpu._is_amx_tile_supported())


@contextmanager
def torch_alone() -> Iterator[None]:
    """torch computes in this thread alone: its others would wait for more on the cores that T3's threads want.

    A thread whose first work with torch falls into this stays alone too.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _best() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
