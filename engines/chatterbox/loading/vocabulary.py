"""Each variant's tokenizer, from its files alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from tokenizers import Tokenizer as TokenizerFile
from transformers import AutoTokenizer

from engines.chatterbox import upstream
from engines.chatterbox.variants import Variant
from resilience.errors import ModelUnavailable

CANGJIE_FILE = "Cangjie5_TC.json"
NEEDED_TOKENS = ("[START]", "[STOP]", "[UNK]", "[SPACE]")
BYTES = 256  # GPT-2's vocabulary has them all

Tokenizer: TypeAlias = Any  # EnTokenizer, MTLTokenizer or transformers' GPT2Tokenizer, which have nothing in common


def load_tokenizer(variant: Variant, files: Mapping[str, Path]) -> Tokenizer:
    """Raises ModelUnavailable, naming the file, if one is missing or is not what its name says."""
    name = variant.tokenizer_files[0]
    path = files.get(name)
    if path is None or not path.exists():
        raise ModelUnavailable(f"the file {path or name} is missing")
    if variant.family == "gpt2":
        return _load_gpt2(path.parent)
    if len(variant.languages) > 1:
        return LocalGraphemes(path, files.get(CANGJIE_FILE))
    return LocalLetters(path)


class LocalLetters(upstream.tokenizers.EnTokenizer):  # type: ignore[misc]
    """Upstream's English tokenizer, with a sentence on what is wrong with its file."""

    def __init__(self, vocabulary: Path) -> None:
        self.tokenizer = _read_vocabulary(vocabulary)


class LocalGraphemes(upstream.tokenizers.MTLTokenizer):  # type: ignore[misc]
    """Upstream's multilingual tokenizer, which gets its Cangjie table from the file next to it.

    Upstream asks the hub's client for that file, with a cache in the folder it is already in: 23 s without a network,
    and then no table.
    """

    def __init__(self, vocabulary: Path, cangjie: Path | None) -> None:
        self.tokenizer = _read_vocabulary(vocabulary)
        self.cangjie_converter = LocalCangjie(cangjie)


class LocalCangjie(upstream.tokenizers.ChineseCangjieConverter):  # type: ignore[misc]
    """Upstream's converter of Chinese characters to Cangjie codes; without a table it leaves them as they are."""

    def _load_cangjie_mapping(self, table: Path | None) -> None:
        if table is None:
            return
        try:
            entries = [entry.split("\t")[:2] for entry in json.loads(table.read_text(encoding="utf-8"))]
            self.word2cj.update((word, code) for word, code in entries)
        except (ValueError, TypeError, AttributeError) as error:
            raise ModelUnavailable(f"the file {table} is damaged: it is no table of Cangjie codes") from error
        for word, code in entries:
            self.cj2word.setdefault(code, []).append(word)

    def _init_segmenter(self) -> None:
        """There is none, as without spacy-pkuseg: where that is installed, upstream has it fetch from github.com."""


def _read_vocabulary(path: Path) -> TokenizerFile:
    content = path.read_bytes()
    try:
        vocabulary = json.loads(content)["model"]["vocab"]
    except (ValueError, TypeError, KeyError) as error:
        raise ModelUnavailable(f"the file {path} is damaged: it is no tokenizer") from error
    absent = [token for token in NEEDED_TOKENS if token not in vocabulary]
    if absent:
        raise ModelUnavailable(f"the file {path} is of another model: its tokenizer has no {absent[0]}")
    return TokenizerFile.from_buffer(content)


def _load_gpt2(folder: Path) -> Tokenizer:
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the Rust library below raises nothing narrower
        raise ModelUnavailable(f"the tokenizer's files in {folder} are damaged or incomplete") from error
    if len(tokenizer) < BYTES:  # transformers makes an empty tokenizer where the vocabulary's file is missing
        raise ModelUnavailable(f"the tokenizer's files in {folder} are incomplete: they hold no vocabulary")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer
