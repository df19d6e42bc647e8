"""Messages of a WebSocket over which a text is spoken while it is still being written."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from api_models.openai import LONGEST_INPUT, ErrorEnvelope, SpeechManner


class Start(SpeechManner):
    """The first message: how all of the text is said, and how its audio is sent."""

    type: Literal["start", "session.start"]
    audio: Literal["binary", "base64"] = Field(
        "binary", description="base64: as text in JSON, instead of binary frames"
    )


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Text(_Message):
    """What the text goes on with: a word, a syllable, a page."""

    type: Literal["text"]
    text: str = Field(max_length=LONGEST_INPUT)


class Flush(_Message):
    """Say all there is, as if the last sentence were whole."""

    type: Literal["flush"]


class Cancel(_Message):
    """Be silent at once, and forget what was not said."""

    type: Literal["cancel"]


class End(_Message):
    """Nothing more comes: say the rest, then close."""

    type: Literal["end"]


Message = Start | Text | Flush | Cancel | End
MESSAGES: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="type")])


class Started(BaseModel):
    """The server's first message. All audio that follows is one file of this format."""

    type: Literal["started"] = "started"
    model: str
    voice: str
    response_format: str
    content_type: str
    sample_rate: int = Field(description="Hz")
    seed: int
    warnings: list[str]


class SentenceStarts(BaseModel):
    """What the audio after it says, from 0 on."""

    type: Literal["sentence"] = "sentence"
    index: int
    text: str


class Audio(BaseModel):
    """Instead of a binary frame, where `start` asked for it."""

    type: Literal["audio"] = "audio"
    audio: str = Field(description="base64")


class Said(BaseModel):
    """All before a `flush` was sent, or nothing after it will be of what was written before a `cancel`."""

    type: Literal["flushed", "cancelled"]


class Usage(BaseModel):
    input_tokens: int
    output_tokens: int
    total_tokens: int


class Done(BaseModel):
    """All was sent; the connection is closed."""

    type: Literal["done"] = "done"
    usage: Usage
    duration_seconds: float


class Failure(ErrorEnvelope):
    """Why the connection is closed."""

    type: Literal["error"] = "error"
    retry_after: int | None = Field(None, description="seconds after which another attempt may succeed")
