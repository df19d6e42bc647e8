"""Upstream's modules, made from the files of one variant. Nothing here asks the network."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engines.chatterbox import upstream
from engines.chatterbox.loading.tensors import Unfilled, fill, read_tensors
from engines.chatterbox.loading.vocabulary import Tokenizer, load_tokenizer
from engines.chatterbox.variants import Variant
from engines.chatterbox.voice import PreparedVoice
from resilience.errors import ModelUnavailable


@dataclass(frozen=True, slots=True)
class Modules:
    """A variant's parts, for inference: float32, on one device. Nothing of a voice or a request is kept on them."""

    variant: Variant
    t3: nn.Module
    s3gen: nn.Module
    voice_encoder: nn.Module
    tokenizer: Tokenizer
    own_voice: PreparedVoice | None  # the voice that came with the weights


def load_modules(variant: Variant, files: Mapping[str, Path], device: torch.device) -> Modules:
    """Make the variant from its files, which are found by their names in its repository.

    Raises ModelUnavailable with a sentence that names the file which is missing, damaged or of another model.
    """
    t3_path = _path(files, *variant.t3_files)
    s3gen_path = _path(files, variant.s3gen_file)
    voice_encoder_path = _path(files, variant.voice_encoder_file)
    with upstream.quiet():  # the small files first, so that a fault in one is told at once
        return Modules(
            variant=variant,
            tokenizer=load_tokenizer(variant, files),
            own_voice=_load_own_voice(variant, files.get(variant.own_voice_file)),
            voice_encoder=_ready(_load_voice_encoder(voice_encoder_path), device),
            s3gen=_ready(_load_s3gen(variant, s3gen_path), device),
            t3=_ready(_load_t3(variant, t3_path), device),
        )


def _path(files: Mapping[str, Path], *alternatives: str) -> Path:
    for name in alternatives:
        if name in files:
            return files[name]
    raise ModelUnavailable(f"the file {' or '.join(alternatives)} is missing")


def _ready(module: nn.Module, device: torch.device) -> nn.Module:
    return module.to(device).eval().requires_grad_(False)


def _load_t3(variant: Variant, path: Path) -> nn.Module:
    weights = read_tensors(path)
    if "model" in weights:  # how checkpoints are saved while T3 is trained
        weights = weights["model"][0]
    is_gpt2 = variant.family == "gpt2"
    settings = _gpt2_settings(variant, weights, path) if is_gpt2 else _llama_settings(variant)
    with Unfilled():
        t3 = upstream.t3.T3(settings)
    if is_gpt2:
        # GPT-2's own word embeddings: T3 has embeddings of its own, upstream deletes these once they are loaded.
        del t3.tfmr.wte
        weights = {name: tensor for name, tensor in weights.items() if name != "tfmr.wte.weight"}
    fill(t3, weights, path)
    return t3


def _llama_settings(variant: Variant) -> Any:
    return upstream.t3_config.T3Config(text_tokens_dict_size=variant.text_vocabulary)


def _gpt2_settings(variant: Variant, weights: Mapping[str, Tensor], path: Path) -> Any:
    """Turbo's settings, as upstream spells them out, for a backbone as deep and as wide as the weights are."""
    settings = upstream.t3_config.T3Config(text_tokens_dict_size=variant.text_vocabulary)
    settings.llama_config_name = _gpt2_backbone(weights, path)
    settings.speech_tokens_dict_size = 6563
    settings.input_pos_emb = None
    settings.speech_cond_prompt_len = variant.prompt_tokens
    settings.use_perceiver_resampler = False
    settings.emotion_adv = False
    return settings


def _gpt2_backbone(weights: Mapping[str, Tensor], path: Path) -> str:
    """The name, in upstream's table, of a GPT-2 of these weights' size.

    chatterbox-tts 0.1.7 knows Turbo's alone, and Nano's is smaller. All that T3 asks of the table is that the name is
    in it, so an entry for the size is added. Heads cannot be told from weights: every GPT-2 but small tests' has 64
    channels a head.
    """
    if "tfmr.wpe.weight" not in weights:
        raise ModelUnavailable(f"the file {path} is of another model: it has no GPT-2 in it")
    table = upstream.llama_configs.LLAMA_CONFIGS
    medium = table["GPT2_medium"]
    positions, width = weights["tfmr.wpe.weight"].shape
    layers = 1 + max((int(name.split(".")[2]) for name in weights if name.startswith("tfmr.h.")), default=-1)
    name = f"GPT2_{layers}x{width}"
    table[name] = {
        **medium,
        "n_embd": width,
        "hidden_size": width,
        "n_layer": layers,
        "n_head": medium["n_head"] if width == medium["n_embd"] else width // 64,
        "n_positions": positions,
        "n_ctx": positions,
        "vocab_size": 1,  # of the word embeddings that are deleted
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    return name


def _load_s3gen(variant: Variant, path: Path) -> nn.Module:
    """English's file is loaded loosely upstream, the others whole; the mel filters and window may lack in all."""
    with Unfilled():
        s3gen = upstream.s3gen.S3Gen(meanflow=variant.family == "gpt2")
    computed = upstream.s3gen.S3Gen.ignore_state_dict_missing
    fill(s3gen, read_tensors(path), path, computed, is_strict=variant.name != "english")
    return s3gen


def _load_voice_encoder(path: Path) -> nn.Module:
    with Unfilled():
        encoder = upstream.voice_encoder.VoiceEncoder()
    fill(encoder, read_tensors(path), path)
    return encoder


def _load_own_voice(variant: Variant, path: Path | None) -> PreparedVoice | None:
    if path is None or not path.exists():
        return None
    content = read_tensors(path)
    try:
        t3, gen = content["t3"], content["gen"]
        return PreparedVoice(
            key=f"{variant.name}:own:{hashlib.sha256(path.read_bytes()).hexdigest()}",
            speaker=t3["speaker_emb"].float(),
            prompt_tokens=torch.atleast_2d(t3["cond_prompt_speech_tokens"]).long(),
            reference_tokens=torch.atleast_2d(gen["prompt_token"]).long(),
            reference_mel=gen["prompt_feat"].float(),
            reference_speaker=gen["embedding"].float(),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelUnavailable(f"the file {path} holds no voice of this model") from error
