"""The small checkpoints are ones that the package itself can load and speak with."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engines.chatterbox.loading.modules import load_modules
from engines.chatterbox.t3.decoding import Decoder
from engines.chatterbox.variants import VARIANTS
from tests.engines.chatterbox.checkpoints import STOP_AFTER, environment, files_of
from tests.engines.chatterbox.small_t3 import CPU, TEXT, make_voice, performance, spoken

TOKEN_S = 0.04


@pytest.mark.parametrize(("name", "spoken"), [("english", {}), ("multilingual", {"language_id": "fr"}), ("turbo", {})])
def test_upstream_loads_a_small_checkpoint_and_speaks(
    name: str, spoken: dict[str, str], upstream_model: Callable[[str], Any]
) -> None:
    model = upstream_model(name)
    torch.manual_seed(1)

    samples = model.generate("Hello there.", **spoken).numpy()[0]

    assert np.isfinite(samples).all()
    assert np.abs(samples).max() > 0.001
    if name != "turbo":  # whose end is random
        assert len(samples) == pytest.approx(STOP_AFTER * TOKEN_S * 24000, abs=TOKEN_S * 24000)


@pytest.mark.parametrize("name", VARIANTS)
def test_with_the_same_seeds_every_variant_says_something_else_in_another_voice_or_of_another_text(
    name: str, checkpoints: Path
) -> None:
    variant = VARIANTS[name]
    t3 = load_modules(variant, files_of(checkpoints, name), CPU).t3
    decoder = Decoder(t3, variant, "fp32", CPU, max_sequences=1)

    def say(voice: int, text: list[int]) -> list[list[int]]:
        return [spoken(decoder, text, make_voice(voice), performance(), seed, most=STOP_AFTER) for seed in range(4)]

    assert say(0, TEXT) == say(0, TEXT)
    assert say(0, TEXT) != say(1, TEXT)
    assert say(0, TEXT) != say(0, [token + 1 for token in TEXT])


@pytest.mark.slow  # the imports, once more
def test_another_process_has_the_small_architecture_once_it_imports_chatterbox(checkpoints: Path) -> None:
    script = (
        "import sys; assert 'torch' not in sys.modules; from chatterbox.tts import ChatterboxTTS;"
        f"print(ChatterboxTTS.from_local({str(checkpoints / 'english')!r}, 'cpu').t3.dim)"
    )

    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        env={**os.environ, **environment()},
        capture_output=True,
        text=True,
    )

    assert run.stdout.split()[-1:] == ["64"], run.stderr


def test_the_machines_own_start_up_file_runs_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('the machine')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    run = subprocess.run(
        [sys.executable, "-c", ""], env={**os.environ, **environment()}, capture_output=True, text=True
    )

    assert (run.stdout, run.stderr) == ("the machine\n", "")
