"""Small random-weight checkpoints of every variant, which the package's own loaders and ours both take.

    with architecture():
        build(folder)       # once, some 2 s
        model = ChatterboxTTS.from_local(folder / "english", "cpu")

The speech is noise, but every line of the real code runs, and voice and text decide what is said. The English and
multilingual models stop by themselves at step `STOP_AFTER` exactly (25 tokens are a second); when Turbo and Nano stop
is up to the seed, with a mean near that.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.chatterbox.variants import LANGUAGES
from tests.engines.chatterbox.architecture import LAYERS, NANO_LAYERS, architecture

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor

__all__ = [
    "ENGLISH_CHARACTERS",
    "FOLDERS",
    "STOP_AFTER",
    "TAGS",
    "architecture",
    "build",
    "environment",
    "files_of",
    "grapheme_tokenizer",
    "hub_cache",
    "save_own_voice",
]

FOLDERS = {"english": "english", "turbo": "turbo", "nano": "turbo", "multilingual": "multilingual"}
STOP_AFTER = 40
ATTENTIVE = 6.0  # at the scale of their making the layers add next to nothing: voice and text would not be heard
TAGS = ("[laugh]", "[chuckle]", "[sigh]")
CANGJIE = (
    "\u65e9\tam",
    "\u4e0a\tym",
    "\u597d\tvnd",
    "\u4f60\tonf",
    "\u4e2d\tl",
    "\u6587\tyk",
    "\u4e34\tlle",
    "\u9152\tlle",
)
ENGLISH_CHARACTERS = (33, 126)
MULTILINGUAL_CHARACTERS = (
    *(ENGLISH_CHARACTERS, (0xA1, 0x24F), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x45F), (0x5B0, 0x5EA)),
    *((0x621, 0x652), (0x900, 0x96F), (0x1100, 0x11C2), (0x3001, 0x3002), (0x3041, 0x30FC)),
)
NOT_SAVED = (
    "tokenizer._mel_filters",
    "tokenizer.window",
)  # absent from the English file, which is why it loads loosely


def build(folder: Path, seed: int = 0) -> Path:
    """Write english/, turbo/ (with Nano's file) and multilingual/ below `folder`, 70 MB. Call inside `architecture()`.

    Equal seeds write equal weights; torch's own random state is left as it was.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        listeners = _voice_encoder(), _s3gen()
        _build_english(folder / "english", *listeners)
        _build_multilingual(folder / "multilingual", *listeners)
        _build_turbo(folder / "turbo", listeners[0])
    return folder


def files_of(built: Path, variant: str) -> dict[str, Path]:
    """What `load_modules` is given for a variant."""
    return {path.name: path for path in (built / FOLDERS[variant]).iterdir()}


def environment() -> dict[str, str]:
    """What a process of its own needs to load these checkpoints, for `serving(environment=...)`.

    The patch is installed by a `sitecustomize` on the path, so the child of the child has it too.
    """
    child = str(Path(__file__).parent / "child")
    inherited = os.environ.get("PYTHONPATH")
    return {
        "PYTHONPATH": os.pathsep.join([child, inherited] if inherited else [child]),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }


def hub_cache(built: Path, hf_home: Path) -> Path:
    """Lay built checkpoints out as the Hugging Face hub caches them below HF_HOME; returns `hf_home`."""
    revision = "0" * 40
    contents = {
        "chatterbox": ("english", "multilingual"),
        "chatterbox-turbo": ("turbo",),
        "chatterbox-nano": ("turbo",),
    }
    for repository, folders in contents.items():
        root = hf_home / "hub" / f"models--ResembleAI--{repository}"
        (root / "refs").mkdir(parents=True)
        (root / "refs" / "main").write_text(revision)
        for folder in folders:
            shutil.copytree(built / folder, root / "snapshots" / revision, dirs_exist_ok=True)
    return hf_home


def _build_english(folder: Path, voice_encoder: Mapping[str, Tensor], s3gen: Mapping[str, Tensor]) -> None:
    from chatterbox.models.t3 import T3
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    t3 = T3()
    _stop_at(t3, STOP_AFTER)
    save_file(dict(voice_encoder), folder / "ve.safetensors")
    save_file({name: s3gen[name] for name in s3gen if name not in NOT_SAVED}, folder / "s3gen.safetensors")
    save_file(_state(t3), folder / "t3_cfg.safetensors")
    grapheme_tokenizer(704, (), [ENGLISH_CHARACTERS]).save(str(folder / "tokenizer.json"))
    save_own_voice(folder / "conds.pt", prompt_tokens=150)


def _build_multilingual(folder: Path, voice_encoder: Mapping[str, Tensor], s3gen: Mapping[str, Tensor]) -> None:
    import torch
    from chatterbox.models.t3 import T3
    from chatterbox.models.t3.modules.t3_config import T3Config
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    for version in ("v2", "v3"):
        t3 = T3(T3Config.multilingual())
        _stop_at(t3, STOP_AFTER)
        save_file(_state(t3), folder / f"t3_mtl23ls_{version}.safetensors")
    torch.save(dict(voice_encoder), folder / "ve.pt")
    torch.save(dict(s3gen), folder / "s3gen.pt")
    special = [
        *(f"[{language}]" for language in LANGUAGES),
        *(f"[cj_{part}]" for part in "abcdefghijklmnopqrstuvwxyz.1"),
    ]
    tokenizer = grapheme_tokenizer(2454, special, MULTILINGUAL_CHARACTERS)
    tokenizer.save(str(folder / "grapheme_mtl_merged_expanded_v1.json"))
    (folder / "Cangjie5_TC.json").write_text(json.dumps(CANGJIE, ensure_ascii=False), encoding="utf-8")
    save_own_voice(folder / "conds.pt", prompt_tokens=150)


def _build_turbo(folder: Path, voice_encoder: Mapping[str, Tensor]) -> None:
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    save_file(dict(voice_encoder), folder / "ve.safetensors")
    save_file(_s3gen(meanflow=True), folder / "s3gen_meanflow.safetensors")
    for name, layers in (("turbo", LAYERS), ("nano", NANO_LAYERS)):
        save_file(_gpt2_t3(layers), folder / f"t3_{name}_v1.safetensors")
    _save_gpt2_tokenizer(folder)
    save_own_voice(folder / "conds.pt", prompt_tokens=375)


def _voice_encoder() -> dict[str, Tensor]:
    from chatterbox.models.voice_encoder import VoiceEncoder

    return _state(VoiceEncoder())


def _s3gen(meanflow: bool = False) -> dict[str, Tensor]:
    from chatterbox.models.s3gen import S3Gen

    return _state(S3Gen(meanflow=meanflow))


def _gpt2_t3(layers: int) -> dict[str, Tensor]:
    """A Turbo of so many layers that stops by chance, after `STOP_AFTER` steps or so. Half precision, as published."""
    from unittest.mock import patch

    import torch
    from chatterbox.models.t3 import T3
    from chatterbox.models.t3.llama_configs import LLAMA_CONFIGS
    from chatterbox.models.t3.modules.t3_config import T3Config

    hp = T3Config(text_tokens_dict_size=50276)
    hp.llama_config_name = "GPT2_medium"
    hp.speech_tokens_dict_size = 6563
    hp.input_pos_emb = None
    hp.speech_cond_prompt_len = 375
    hp.use_perceiver_resampler = False
    hp.emotion_adv = False
    with patch.dict(LLAMA_CONFIGS["GPT2_medium"], n_layer=layers):
        t3 = T3(hp)
    _attend(t3)
    with torch.no_grad():
        t3.speech_head.bias[hp.start_speech_token] = -30.0
        t3.speech_head.bias[hp.stop_speech_token] = 3.2
    return {name: tensor.half() for name, tensor in _state(t3).items()}


def _attend(t3: Any) -> None:
    """Make what the layers and the voice's encoder add to the input count."""
    import torch

    with torch.no_grad():
        for weight in (*t3.tfmr.parameters(), *t3.cond_enc.parameters()):
            if weight.ndim == 2:
                weight.mul_(ATTENTIVE)


def _stop_at(t3: Any, step: int) -> None:
    """Make a Llama-backed T3 attentive, and speak its stop token at exactly this step, by what it knows of positions.

    Channel 0 of the speech positions says that it is time, channel 1 is always on. The head listens to the two, no
    layer writes to them, and they are low enough for the others to be heard beside them.
    """
    import torch

    _attend(t3)
    positions, head = t3.speech_pos_emb.emb.weight, t3.speech_head.weight
    stop = t3.hp.stop_speech_token
    with torch.no_grad():
        for layer in t3.tfmr.layers:
            layer.self_attn.o_proj.weight[:2] = 0.0
            layer.mlp.down_proj.weight[:2] = 0.0
        positions.mul_(0.1)
        positions[:step, 0] = -4.0
        positions[step:, 0] = 4.0
        positions[:, 1] = 4.0
        head.mul_(6.0)  # or all tokens would be about equally likely
        head[:, :2] = 0.0
        head[stop, 0] = 60.0
        head[t3.hp.start_speech_token, 1] = -40.0  # ids beyond the vocoder's own are kept from being spoken
        head[stop + 1 :, 1] = -40.0


def _state(module: Any) -> dict[str, Tensor]:
    return {name: tensor.detach().clone().contiguous() for name, tensor in module.state_dict().items()}


def grapheme_tokenizer(size: int, special: Iterable[str], characters: Iterable[tuple[int, int]]) -> Tokenizer:
    """A token for each character of the ranges (first and last code point); all other characters are [UNK]."""
    from tokenizers import Tokenizer, models

    vocabulary = {"[STOP]": 0, "[UNK]": 1, "[SPACE]": 2, "[START]": 255}
    letters = [chr(code) for first, last in characters for code in range(first, last + 1)]
    free = (number for number in range(size) if number not in {0, 1, 2, 255})
    vocabulary |= dict(zip([*special, *letters], free, strict=False))
    vocabulary |= {f"[unused{number}]": number for number in free}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="[UNK]"))
    tokenizer.add_special_tokens([token for token in vocabulary if len(token) > 1])
    return tokenizer


def _save_gpt2_tokenizer(folder: Path) -> None:
    """Bytes without merges, and tags, in the files of the published repository."""
    from tokenizers.pre_tokenizers import ByteLevel

    vocabulary = {symbol: number for number, symbol in enumerate(sorted(ByteLevel.alphabet()))}
    end = "<|endoftext|>"
    config = {
        "tokenizer_class": "GPT2Tokenizer",
        "add_prefix_space": False,
        "model_max_length": 1024,
        **dict.fromkeys(("bos_token", "eos_token", "unk_token"), end),
    }
    tags = {tag: len(vocabulary) + 1 + number for number, tag in enumerate(TAGS)}
    (folder / "vocab.json").write_text(json.dumps({**vocabulary, end: len(vocabulary)}), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    (folder / "added_tokens.json").write_text(json.dumps(tags), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


def save_own_voice(path: Path, prompt_tokens: int, reference_tokens: int = 50) -> None:
    """A voice that comes with the model: random, of the right shapes, its reference 2 s long."""
    import torch

    speaker = torch.rand(1, 256)
    t3 = {
        "speaker_emb": speaker / speaker.norm(),
        "clap_emb": None,
        "cond_prompt_speech_tokens": torch.randint(6561, (1, prompt_tokens)),
        "cond_prompt_speech_emb": None,
        "emotion_adv": 0.5 * torch.ones(1, 1, 1),
    }
    gen = {
        "prompt_token": torch.randint(6561, (1, reference_tokens)),
        "prompt_token_len": torch.tensor([reference_tokens]),
        "prompt_feat": torch.randn(1, 2 * reference_tokens, 80) - 5.0,
        "prompt_feat_len": None,
        "embedding": torch.randn(1, 192),
    }
    torch.save({"t3": t3, "gen": gen}, path)
