"""A text becomes the tokens that upstream's `generate` makes of it, and what has no token is told."""

from __future__ import annotations

import importlib.util
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engines.chatterbox.loading.japanese import HiraganaReader
from engines.chatterbox.loading.text import TextReader
from engines.chatterbox.loading.vocabulary import load_tokenizer
from engines.chatterbox.variants import LANGUAGES, VARIANTS
from tests.engines.chatterbox.checkpoints import TAGS, files_of

Upstream = Callable[[str], Any]

needs_dictionary = pytest.mark.skipif(importlib.util.find_spec("lindera") is None, reason="lindera is not installed")

ENGLISH_TEXTS = [
    "Hello there, world!",
    "  lower case;  two   spaces — and … dots... no end",
    "“Quoted” ‘so’: it's 5 - 3 [laugh] and wörds\nof two lines ,",
    "",
]
TEXTS = {
    "ar": "مرحبا بالعالم",
    "de": "Grüße aus München; das heißt: „schön“",
    "el": "Καλημέρα κόσμε",
    "fr": "« Été » à l'œuvre…",
    "he": "שלום עולם",
    "hi": "नमस्ते दुनिया।",
    "ja": "これはカタカナとひらがなです。がぎぐ、パピプ",
    "ko": "안녕하세요 세계",
    "pl": "Zażółć gęślą jaźń",
    "ru": "Привет, мир! Ёлка",
    "tr": "İstanbul'da ışık",
    "zh": "你好，中文 早上 臨酒。",
}


def reader(name: str, checkpoints: Path) -> TextReader:
    return TextReader(VARIANTS[name], load_tokenizer(VARIANTS[name], files_of(checkpoints, name)))


class Asked(Exception):
    """Leaves upstream's generate() with the tokens that it would have spoken."""


def upstream_tokens(model: Any, text: str, monkeypatch: pytest.MonkeyPatch, **options: str) -> list[int]:
    def ask(*_: Any, text_tokens: Any, **__: Any) -> None:
        raise Asked(text_tokens[0].tolist())

    monkeypatch.setattr(model.t3, "inference", ask)
    monkeypatch.setattr(model.t3, "inference_turbo", ask)
    with pytest.raises(Asked) as asked:
        model.generate(text, **options)
    return list(asked.value.args[0])


@pytest.mark.parametrize("text", ENGLISH_TEXTS)
@pytest.mark.parametrize("name", ["english", "turbo"])
def test_english_tokens_are_upstreams(
    name: str, text: str, upstream_model: Upstream, checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = upstream_tokens(upstream_model(name), text, monkeypatch)
    if name == "english":
        expected = expected[1:-1]  # the start and the stop, which are the decoder's

    assert reader(name, checkpoints).tokens(text, "en") == expected


@pytest.mark.parametrize("language", LANGUAGES)
def test_multilingual_tokens_are_upstreams(
    language: str, upstream_model: Upstream, checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = TEXTS.get(language, "Hello there; one “two” three... ÅÄÖ åäö ñ ç")
    expected = upstream_tokens(upstream_model("multilingual"), text, monkeypatch, language_id=language)

    assert reader("multilingual", checkpoints).tokens(text, language) == expected[1:-1]


def test_a_text_beyond_turbos_limit_is_cut_where_upstream_cuts_it(
    upstream_model: Upstream, checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "word " * 400

    tokens = reader("turbo", checkpoints).tokens(text, "en")

    assert tokens == upstream_tokens(upstream_model("turbo"), text, monkeypatch)
    assert len(tokens) == 1024


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("name", ["turbo", "nano"])
def test_a_tag_is_one_token(name: str, tag: str, checkpoints: Path) -> None:
    texts = reader(name, checkpoints)

    assert len(texts.tokens(f"Well, {tag} yes.", "en")) == len(texts.tokens("Well,  yes.", "en")) + 2


@needs_dictionary
def test_kanji_are_read_as_the_hiragana_that_they_are_spoken_as(checkpoints: Path) -> None:
    texts = reader("multilingual", checkpoints)

    assert texts.tokens("私は日本語を学ぶ。", "ja") == texts.tokens("わたしはにほんごをまなぶ。", "ja")
    assert texts.unknown("私は日本語を学ぶ。", "ja") == []


@needs_dictionary
def test_kana_are_kept_and_a_word_that_looks_like_a_particle_is_marked() -> None:
    read = HiraganaReader().read("花はパリへ")

    assert read == unicodedata.normalize("NFKD", " はなはパリへ")


@pytest.mark.parametrize(
    ("name", "text", "language", "unknown"),
    [
        ("english", "A naïve café, naïvely.", "en", ["ï", "é"]),
        ("english", "Plain text - “quoted”…", "en", []),
        ("multilingual", "Ein 🙂 lächelt.", "de", ["🙂"]),
        ("multilingual", "早上鱻", "zh", ["鱻"]),
        ("turbo", "A 🙂 and 鱻.", "en", []),
    ],
)
def test_characters_without_a_token_are_told(
    name: str, text: str, language: str, unknown: list[str], checkpoints: Path
) -> None:
    assert reader(name, checkpoints).unknown(text, language) == unknown


def test_chinese_without_the_cangjie_table_is_told_to_be_unknown(checkpoints: Path) -> None:
    files = files_of(checkpoints, "multilingual")
    del files["Cangjie5_TC.json"]
    variant = VARIANTS["multilingual"]

    assert TextReader(variant, load_tokenizer(variant, files)).unknown("早上", "zh") == ["早", "上"]
