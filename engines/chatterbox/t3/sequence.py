"""One text being spoken: its tokens so far, and when it is over."""

from __future__ import annotations

from typing import Literal

SPEECH_TOKENS = 6561  # S3Gen's vocabulary: what T3 may sample beyond it is no sound
# A model that is stuck hums or keeps silent, and would go on to the limit. 64 tokens are 2.56 s: longer than a held
# vowel or a pause, and speech of that length is made of tens of different tokens.
STUCK_WINDOW = 64
STUCK_VARIETY = 3

EndedBy = Literal["stop", "limit", "stuck", "dropped"]


class SpeechSequence:
    """`tokens` grows with every step of the decoder, and is at the end what upstream's loop returns.

    The two families end differently. Llama (T3.inference): the stop token is the last of the tokens. GPT-2
    (T3.inference_turbo): it is left out, the first token is not looked at, and `max_tokens` counts those after it.
    """

    def __init__(self, family: Literal["llama", "gpt2"], stop_token: int, max_tokens: int) -> None:
        self.tokens: list[int] = []
        self.ended_by: EndedBy | None = None
        self._is_llama = family == "llama"
        self._stop_token = stop_token
        self._limit = max_tokens if self._is_llama else max_tokens + 1

    @property
    def is_finished(self) -> bool:
        return self.ended_by is not None

    @property
    def speech_tokens(self) -> list[int]:
        """Those that S3Gen has sounds for."""
        return [token for token in self.tokens if token < SPEECH_TOKENS]

    def take(self, token: int) -> None:
        """The token that was sampled next; may finish the sequence."""
        self.tokens.append(token)
        if token == self._stop_token and (self._is_llama or len(self.tokens) > 1):
            self.ended_by = "stop"
            if not self._is_llama:
                self.tokens.pop()
        elif len(self.tokens) >= self._limit:
            self.ended_by = "limit"
        elif len(self.tokens) >= STUCK_WINDOW and len(set(self.tokens[-STUCK_WINDOW:])) <= STUCK_VARIETY:
            self.ended_by = "stuck"
