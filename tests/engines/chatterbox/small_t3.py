"""Small T3 models with random weights, voices for them, and what upstream's own loops say with them."""

from __future__ import annotations

import copy
from typing import Any

import torch
from chatterbox.models.t3 import t3 as upstream
from chatterbox.models.t3.modules.cond_enc import T3Cond
from chatterbox.models.t3.modules.t3_config import T3Config

from engines.chatterbox.t3.decoding import Decoder
from engines.chatterbox.t3.sampling import Performance
from engines.chatterbox.variants import ENGLISH, MULTILINGUAL, TURBO
from engines.chatterbox.voice import PreparedVoice

VARIANTS = {"english": ENGLISH, "multilingual": MULTILINGUAL, "turbo": TURBO}
ATTENTIVE = 6.0  # at the scale of their making the layers add next to nothing: voice and text would not be heard
STOPS_OFTEN = 2.2  # how much louder than the others
CPU = torch.device("cpu")
TEXT = [40, 17, 99, 23, 5, 61, 88, 14, 31, 7, 52, 63]


def make_t3(name: str, loudness: float = 12.0, stops_often: bool = False) -> Any:
    """Upstream's T3 of a variant, in eval mode. `loudness` scales the logits: at 1 all tokens are equally likely.

    The stop token is as improbable as any other, unless `stops_often`: then it comes after some tens of tokens.
    """
    torch.manual_seed(7)
    model = upstream.T3(_config(name)).eval()
    with torch.no_grad():
        for weight in model.tfmr.parameters():
            if weight.ndim == 2:
                weight.mul_(ATTENTIVE)
        model.speech_head.weight.mul_(loudness / 3 if model.is_gpt else loudness)
        if stops_often:
            model.speech_head.weight[model.hp.stop_speech_token] *= STOPS_OFTEN
    return model


def _config(name: str) -> T3Config:
    if name == "english":
        return T3Config.english_only()
    if name == "multilingual":
        return T3Config.multilingual()
    config = T3Config(text_tokens_dict_size=500)
    config.llama_config_name = "GPT2_medium"
    config.speech_tokens_dict_size = 6563
    config.input_pos_emb = None
    config.speech_cond_prompt_len = 375
    config.use_perceiver_resampler = False
    config.emotion_adv = False
    return config


def make_decoder(model: Any, name: str, precision: str = "fp32", max_sequences: int = 16, **options: Any) -> Decoder:
    """A decoder over a copy of the model, which stays whole to be compared with."""
    return Decoder(copy.deepcopy(model), VARIANTS[name], precision, CPU, max_sequences, **options)  # type: ignore[arg-type]


def make_voice(number: int = 0, prompt: int = 60) -> PreparedVoice:
    chance = torch.Generator().manual_seed(number)
    return PreparedVoice(
        key=f"voice {number}",
        speaker=torch.randn(1, 256, generator=chance),
        prompt_tokens=torch.randint(0, 6561, (1, prompt + number), generator=chance),
        reference_tokens=torch.zeros(1, 4, dtype=torch.int64),
        reference_mel=torch.zeros(1, 8, 80),
        reference_speaker=torch.zeros(1, 192),
    )


def performance(**changes: float) -> Performance:
    values: dict[str, Any] = {
        "exaggeration": 0.5,
        "cfg_weight": 0.5,
        "temperature": 0.8,
        "min_p": 0.05,
        "top_p": 1.0,
        "top_k": 1000,
        "repetition_penalty": 1.2,
    }
    return Performance(**{**values, **changes})


def upstream_tokens(
    model: Any, text: list[int], voice: PreparedVoice, how: Performance, seed: int, most: int
) -> list[int]:
    """What upstream's loop returns after torch.manual_seed(seed). The global generator stays as the loop leaves it."""
    condition = T3Cond(
        speaker_emb=voice.speaker,
        cond_prompt_speech_tokens=voice.prompt_tokens,
        emotion_adv=how.exaggeration * torch.ones(1, 1, 1),
    )
    torch.manual_seed(seed)
    if model.is_gpt:
        said = model.inference_turbo(
            t3_cond=condition,
            text_tokens=torch.tensor([text]),
            temperature=how.temperature,
            top_k=how.top_k,
            top_p=how.top_p,
            repetition_penalty=how.repetition_penalty,
            max_gen_len=most,
        )
    else:
        framed = [model.hp.start_text_token, *text, model.hp.stop_text_token]
        said = model.inference(
            t3_cond=condition,
            text_tokens=torch.tensor([framed, framed]),
            max_new_tokens=most,
            temperature=how.temperature,
            top_p=how.top_p,
            min_p=how.min_p,
            repetition_penalty=how.repetition_penalty,
            cfg_weight=how.cfg_weight,
        )
    return [int(token) for token in said[0]]


def spoken(
    decoder: Decoder, text: list[int], voice: PreparedVoice, how: Performance, seed: int, most: int
) -> list[int]:
    """What our decoder says of a text alone."""
    sequence = decoder.admit(text, voice, how, torch.Generator().manual_seed(seed), most)
    while not sequence.is_finished:
        decoder.step()
    tokens: list[int] = sequence.tokens
    return tokens
