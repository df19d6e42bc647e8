"""What is spoken while a variant is loaded on a GPU: here on a processor, which has no need of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engines.chatterbox.fleet import Fleet
from engines.chatterbox.options import ChatterboxOptions
from engines.chatterbox.warm_up import warm_up

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["english", "multilingual", "turbo", "nano"])
def test_every_variant_can_be_warmed_up_and_is_idle_afterwards(checkpoints: Path, name: str) -> None:
    model = Fleet(ChatterboxOptions(weights=str(checkpoints)), CPU, batch=2).load(name, lambda progress: None)

    warm_up(model.variant, model.decoder, model.renderer)

    assert list(model.decoder.active) == []
    assert model.decoder._cache.rows == 0
