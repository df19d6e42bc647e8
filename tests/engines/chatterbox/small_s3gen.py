"""Small S3Gen models with random weights, voices for them, and what upstream's own inference makes of both."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from chatterbox.models.s3gen import S3Gen

from engines.chatterbox.voice import PreparedVoice

STEPS = {False: 10, True: 2}  # of the flow, by whether it is a meanflow model


def make_s3gen(is_meanflow: bool) -> Any:
    """Upstream's S3Gen in eval mode. Its random pitch is raised to that of a voice, about 100 to 200 Hz."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = S3Gen(meanflow=is_meanflow).eval()
    with torch.no_grad():
        model.mel2wav.f0_predictor.classifier.weight.mul_(1000)
        model.mel2wav.f0_predictor.classifier.bias.fill_(150)
    return model


def make_voice(seed: int, tokens: int = 20, stray_frames: int = 0) -> PreparedVoice:
    """A voice whose prompt has so many tokens; a recording that ends within a token leaves a stray mel frame."""
    drawn = torch.Generator().manual_seed(seed)
    return PreparedVoice(
        key=f"voice {seed}",
        speaker=torch.zeros(1, 256),
        prompt_tokens=torch.zeros(1, 5, dtype=torch.int64),
        reference_tokens=torch.randint(6561, (1, tokens), generator=drawn),
        reference_mel=torch.randn(1, 2 * tokens + stray_frames, 80, generator=drawn),
        reference_speaker=torch.randn(1, 192, generator=drawn),
    )


def make_tokens(seed: int, count: int) -> list[int]:
    drawn = torch.randint(6561, (count,), generator=torch.Generator().manual_seed(seed))
    return [int(token) for token in drawn]


def conditions(voice: PreparedVoice) -> dict[str, Any]:
    """The voice as upstream takes it."""
    return {
        "prompt_token": voice.reference_tokens,
        "prompt_token_len": torch.tensor([voice.reference_tokens.shape[1]]),
        "prompt_feat": voice.reference_mel,
        "prompt_feat_len": None,
        "embedding": voice.reference_speaker,
    }


def upstream_mel(s3gen: Any, tokens: list[int], voice: PreparedVoice, seed: int) -> torch.Tensor:
    """(80, frames) from upstream's own flow after `torch.manual_seed(seed)`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        steps = STEPS[s3gen.meanflow]
        ref = conditions(voice)
        mels = s3gen.flow_inference(torch.tensor([tokens]), ref_dict=ref, n_cfm_timesteps=steps, finalize=True)
    return mels[0]


def upstream_samples(s3gen: Any, tokens: list[int], voice: PreparedVoice, seed: int) -> np.ndarray:
    """What upstream's `inference` makes of tokens after `torch.manual_seed(seed)`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        steps = STEPS[s3gen.meanflow]
        waveform, _ = s3gen.inference(torch.tensor(tokens), ref_dict=conditions(voice), n_cfm_timesteps=steps)
    return np.asarray(waveform[0])


def unchecked() -> None:
    """A check that never raises."""
