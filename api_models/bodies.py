"""What the bodies that clients send have in common. A field that may be left out means "the server's default"."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from api_models.fields import refuse_two_folders
from config.settings import AudioFormatName, LoudnessMethod, Section, SpeechSettings, SpeedLibrary
from planning import MAX_SEED


def lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


FormatName = Annotated[AudioFormatName, BeforeValidator(lower)]
ResponseMode = Annotated[Literal["stream", "file", "download", "url", "json", "live"], BeforeValidator(lower)]


def option(name: str, section: type[Section] = SpeechSettings) -> Any:
    """A field that takes its meaning, range and shipped default from the setting of the same name."""
    setting = section.model_fields[name]
    shipped = json.dumps(setting.default)
    described = f"{setting.description} (null: the server's default, as shipped {shipped})"
    field: FieldInfo = Field(default=None, description=described, examples=[setting.default])  # type: ignore[assignment]
    field.metadata = list(setting.metadata)
    return field


MODEL = Field(
    default=None,
    min_length=1,
    max_length=100,
    description="one of the engine's models, as /api/v1/config lists them (null: its default)",
    examples=["turbo"],
)
SEED = Field(
    default=None,
    ge=0,
    le=MAX_SEED,
    description="0 = random; the seed that was used comes back, and gives the same samples",
)
PROJECT = Field(
    default=None, max_length=1024, description="folder below outputs/, made if absent", examples=["book/chapter-1"]
)
FOLDER = Field(default=None, max_length=1024, description="the same as `project`")
AS_QUERY = Field(default=None, description="as the query parameter, which wins")


class Strict(BaseModel):
    """A body or a part of one, in which every field is known."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _refuse_a_flood_of_fields(cls, body: Any) -> Any:
        """One fault for all of them, where a fault each would be an answer of megabytes."""
        is_refused = cls.model_config["extra"] == "forbid"
        if is_refused and isinstance(body, dict) and len(body) > 2 * len(cls.model_fields):
            raise PydanticCustomError("too_many_fields", "it has {count} fields", {"count": len(body)})
        return body


class RequestBody(Strict):
    """What the bodies of all generations have in common: how they are checked."""

    @model_validator(mode="after")
    def _one_folder(self) -> Self:
        refuse_two_folders(self)
        return self

    def options_of(self, section: type[Section]) -> dict[str, Any]:
        """The members of a section of the settings that this body gives a value."""
        given = {name: getattr(self, name, None) for name in section.model_fields}
        options = {name: value for name, value in given.items() if value is not None}
        if "export_formats" in options:
            options["export_formats"] = tuple(dict.fromkeys(options["export_formats"]))
        return options


class SoundBody(RequestBody):
    """What is done to the sound that is made, and the files that are made of it."""

    disable_watermark: bool | None = option("disable_watermark")
    use_auto_editor: bool | None = option("use_auto_editor")
    keep_original_wav_ae: bool | None = option("keep_original_wav_ae")
    ae_threshold: float | None = option("ae_threshold")
    ae_margin: float | None = option("ae_margin")
    speed_factor: float | None = option("speed_factor")
    speed_factor_library: SpeedLibrary | None = option("speed_factor_library")
    trim: bool | None = option("trim")
    trim_threshold_ms: int | None = option("trim_threshold_ms")
    normalize_audio: bool | None = option("normalize_audio")
    normalize_method: LoudnessMethod | None = option("normalize_method")
    normalize_level: float | None = option("normalize_level")
    normalize_tp: float | None = option("normalize_tp")
    normalize_lra: float | None = option("normalize_lra")
    export_formats: list[FormatName] | None = option("export_formats")
