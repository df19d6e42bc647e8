"""Text as each variant reads it: the numbers of its tokens."""

from __future__ import annotations

from collections.abc import Callable

from engines.chatterbox import upstream
from engines.chatterbox.loading.japanese import HiraganaReader
from engines.chatterbox.loading.vocabulary import Tokenizer
from engines.chatterbox.variants import Variant

UNKNOWN, SPACE = "[UNK]", "[SPACE]"


class TextReader:
    """Tokens of a text, without the start and stop that T3 wants around them. Safe from any thread.

    They are those that upstream's `generate` computes, with one difference: Japanese kanji are read with the
    dictionary that this server has. Chinese words are not set apart, nor Hebrew points and Russian stress added, which
    upstream does with packages that fetch models of their own.
    """

    def __init__(self, variant: Variant, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._normal: Callable[[str], str]
        self._encode: Callable[[str, str], list[int]]
        if variant.family == "gpt2":
            self._normal, self._encode = upstream.tts_turbo.punc_norm, self._gpt2_tokens
        elif len(variant.languages) > 1:
            self._normal, self._encode = upstream.mtl_tts.punc_norm, self._grapheme_tokens
        else:
            self._normal, self._encode = upstream.tts.punc_norm, self._letter_tokens
        self._unknown = None if variant.family == "gpt2" else tokenizer.tokenizer.token_to_id(UNKNOWN)
        self._preparations: dict[str, Callable[[str], str]] = {
            "ja": HiraganaReader().read,
            "ko": upstream.tokenizers.korean_normalize,
        }
        if isinstance(tokenizer, upstream.tokenizers.MTLTokenizer):
            self._preparations["zh"] = tokenizer.cangjie_converter

    def tokens(self, text: str, language: str) -> list[int]:
        """What the model is given to read; `language` is one of the variant's."""
        return self._encode(self._normal(text), language)

    def unknown(self, text: str, language: str) -> list[str]:
        """What of the text the model never sees as such, each once: characters that the vocabulary has no token for,
        and words such as [STOP], which are signs to the model and not said.

        Turbo and Nano know every byte, so there are none.
        """
        if self._unknown is None:
            return []
        signs = [sign for sign in upstream.tokenizers.SPECIAL_TOKENS if sign in text]
        if self._unknown not in self.tokens(text, language):
            return signs
        characters = dict.fromkeys(self._normal(text))
        return signs + [character for character in characters if self._unknown in self._encode(character, language)]

    def _letter_tokens(self, text: str, _language: str) -> list[int]:
        return list(self._tokenizer.encode(text))

    def _gpt2_tokens(self, text: str, _language: str) -> list[int]:
        # Cut here and not by the tokenizer, whose setting for that is no affair of several threads.
        return list(self._tokenizer(text, verbose=False).input_ids[: self._tokenizer.model_max_length])

    def _grapheme_tokens(self, text: str, language: str) -> list[int]:
        """As `MTLTokenizer.encode`, without the functions that ask the network or log that they cannot work."""
        # The dictionary of Japanese wants whole characters, which it decomposes itself; all else is decomposed first.
        whole = text.lower() if language == "ja" else self._tokenizer.preprocess_text(text)
        prepared = self._preparations.get(language, _unchanged)(whole)
        return list(self._tokenizer.tokenizer.encode(f"[{language}]{prepared}".replace(" ", SPACE)).ids)


def _unchanged(text: str) -> str:
    return text
