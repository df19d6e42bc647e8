"""Where the numbers that nobody chose come from: a generator of its own for every request."""

from __future__ import annotations

import torch


def chance(seed: int, device: torch.device) -> torch.Generator:
    """A generator that the seed alone decides, for models on `device`.

    On an NVIDIA device it is there, so that nothing waits for numbers to come over; elsewhere it is the processor's,
    from which a seed draws what the package draws after torch.manual_seed.
    """
    return torch.Generator(device if device.type == "cuda" else "cpu").manual_seed(seed)
