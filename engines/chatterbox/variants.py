"""The variants of Chatterbox: which files each is made of, what it takes, how it is asked. No torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

# Both repositories publish the first form; save_pretrained() of newer transformers writes the second.
GPT2_VOCABULARIES = (("vocab.json", "merges.txt", "added_tokens.json"), ("tokenizer.json",))
LANGUAGES = tuple("ar da de el en es fi fr he hi it ja ko ms nl no pl pt ru sv sw tr zh".split())
LLAMA_TAKES = frozenset({"exaggeration", "temperature", "cfg_weight", "min_p", "top_p", "repetition_penalty"})
GPT2_TAKES = frozenset({"temperature", "top_p", "repetition_penalty"})


@dataclass(frozen=True, slots=True)
class Variant:
    """One published model, its files by the names under which they are published.

    `t3_files` are alternatives, the preferred first. `vocabularies` are sets of files: the tokenizer needs one of them
    whole beside `tokenizer_files`, all of which it needs. `optional_files` are taken along where they exist.

    `takes` names the members of `Sampling` that it heeds; `min_p` to `repetition_penalty` are what the package gives
    it where a request says nothing. The voice prompt is `prompt_s` seconds of the reference, as at most
    `prompt_tokens` tokens; a reference shorter than `least_reference_s` is refused. `watches_alignment` is true if
    upstream steers it by where its attention is in the text; `drops_last_token` if its last token is a noise.
    """

    name: str
    repository: str
    family: Literal["llama", "gpt2"]
    t3_files: tuple[str, ...]
    s3gen_file: str
    voice_encoder_file: str
    tokenizer_files: tuple[str, ...]
    languages: tuple[str, ...]
    takes: frozenset[str]
    text_vocabulary: int
    min_p: float
    top_p: float
    top_k: int
    repetition_penalty: float
    prompt_s: float
    prompt_tokens: int
    least_reference_s: float
    flow_steps: int
    has_tags: bool
    vocabularies: tuple[tuple[str, ...], ...] = ()
    optional_files: tuple[str, ...] = ()
    own_voice_file: str = "conds.pt"  # optional too
    watches_alignment: bool = False
    drops_last_token: bool = False

    @property
    def needed_files(self) -> tuple[tuple[tuple[str, ...], ...], ...]:
        """For each part of the model the sets of files that will do, the preferred set first."""
        alone = (self.s3gen_file, self.voice_encoder_file, *self.tokenizer_files)
        parts = (tuple((name,) for name in self.t3_files), *(((name,),) for name in alone))
        return (*parts, self.vocabularies) if self.vocabularies else parts


ENGLISH = Variant(
    name="english",
    repository="ResembleAI/chatterbox",
    family="llama",
    t3_files=("t3_cfg.safetensors",),
    s3gen_file="s3gen.safetensors",
    voice_encoder_file="ve.safetensors",
    tokenizer_files=("tokenizer.json",),
    languages=("en",),
    takes=LLAMA_TAKES,
    text_vocabulary=704,
    min_p=0.05,
    top_p=1.0,
    top_k=0,
    repetition_penalty=1.2,
    prompt_s=6.0,
    prompt_tokens=150,
    least_reference_s=0.5,
    flow_steps=10,
    has_tags=False,
)

MULTILINGUAL = Variant(
    name="multilingual",
    repository="ResembleAI/chatterbox",
    family="llama",
    t3_files=("t3_mtl23ls_v3.safetensors", "t3_mtl23ls_v2.safetensors"),
    s3gen_file="s3gen.pt",
    voice_encoder_file="ve.pt",
    tokenizer_files=("grapheme_mtl_merged_expanded_v1.json", "Cangjie5_TC.json"),
    languages=LANGUAGES,
    takes=LLAMA_TAKES,
    text_vocabulary=2454,
    min_p=0.05,
    top_p=1.0,
    top_k=0,
    repetition_penalty=2.0,
    prompt_s=6.0,
    prompt_tokens=150,
    least_reference_s=0.5,
    flow_steps=10,
    has_tags=False,
    watches_alignment=True,
)

TURBO = Variant(
    name="turbo",
    repository="ResembleAI/chatterbox-turbo",
    family="gpt2",
    t3_files=("t3_turbo_v1.safetensors",),
    s3gen_file="s3gen_meanflow.safetensors",
    voice_encoder_file="ve.safetensors",
    tokenizer_files=("tokenizer_config.json",),
    vocabularies=GPT2_VOCABULARIES,
    optional_files=("special_tokens_map.json",),
    languages=("en",),
    takes=GPT2_TAKES,
    text_vocabulary=50276,
    min_p=0.0,
    top_p=0.95,
    top_k=1000,
    repetition_penalty=1.2,
    prompt_s=15.0,
    prompt_tokens=375,
    least_reference_s=5.0,
    flow_steps=2,
    has_tags=True,
)

# The same with a smaller GPT-2 in it.
NANO = replace(TURBO, name="nano", repository="ResembleAI/chatterbox-nano", t3_files=("t3_nano_v1.safetensors",))

VARIANTS = {variant.name: variant for variant in (ENGLISH, TURBO, NANO, MULTILINGUAL)}


def edition(variant: Variant, files: Iterable[str]) -> Variant:
    """The variant as it is asked when it is made of these files.

    The third multilingual model was trained without the analyser of its attention, with another penalty, and ends in
    40 ms of noise (upstream's pull request 516).
    """
    if "t3_mtl23ls_v3.safetensors" not in files:
        return variant
    return replace(variant, repetition_penalty=1.2, watches_alignment=False, drops_last_token=True)
