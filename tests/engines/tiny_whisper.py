"""A Whisper of one narrow layer and random weights, in the form that faster-whisper loads. Needs the full layer."""

from __future__ import annotations

from pathlib import Path

import torch
from ctranslate2.converters.transformers import WhisperLoader
from faster_whisper.tokenizer import _LANGUAGE_CODES
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import WhisperConfig, WhisperForConditionalGeneration

_MARKS = "translate transcribe startoflm startofprev nospeech notimestamps".split()


def write_tiny_whisper(folder: Path) -> Path:
    tokenizer = _tokenizer()
    spec = WhisperLoader().get_model_spec(_model(tokenizer))
    spec.register_vocabulary([token for token, _ in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])])
    spec.config.suppress_ids = spec.config.suppress_ids_begin = []
    spec.config.lang_ids = [tokenizer.token_to_id(f"<|{code}|>") for code in _LANGUAGE_CODES]
    spec.config.alignment_heads = [(0, 0)]
    spec.validate()
    spec.optimize()
    spec.save(str(folder))
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def _tokenizer() -> Tokenizer:
    """A token a byte, and Whisper's special ones."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={byte: number for number, byte in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    names = ["endoftext", "startoftranscript", *_LANGUAGE_CODES, *_MARKS]
    times = [f"{step * 0.02:.2f}" for step in range(1501)]
    tokenizer.add_special_tokens([f"<|{name}|>" for name in [*names, *times]])
    return tokenizer


def _model(tokenizer: Tokenizer) -> WhisperForConditionalGeneration:
    end = tokenizer.token_to_id("<|endoftext|>")
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=tokenizer.get_vocab_size(),
            d_model=64,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=1,
            decoder_attention_heads=1,
            encoder_ffn_dim=64,
            decoder_ffn_dim=64,
            num_mel_bins=80,
            pad_token_id=end,
            bos_token_id=end,
            eos_token_id=end,
            decoder_start_token_id=tokenizer.token_to_id("<|startoftranscript|>"),
            suppress_tokens=[],
            begin_suppress_tokens=[],
        )
    )
    with torch.no_grad():
        model.model.decoder.embed_tokens.weight[end:] = 0  # a token of text is always the likeliest
    return model
