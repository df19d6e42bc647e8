"""What the bodies that clients send have in common. A field that may be left out means "the server's default"."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from config.settings import AudioFormatName, Section, SpeechSettings
from planning import MAX_SEED


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


FormatName = Annotated[AudioFormatName, BeforeValidator(_lower)]
ResponseMode = Annotated[Literal["stream", "file", "download", "url", "json", "live"], BeforeValidator(_lower)]


def option(name: str, section: type[Section] = SpeechSettings) -> Any:
    """A field that takes its meaning, range and shipped default from the setting of the same name."""
    setting = section.model_fields[name]
    shipped = json.dumps(setting.default)
    described = f"{setting.description} (null: the server's default, as shipped {shipped})"
    field: FieldInfo = Field(default=None, description=described, examples=[setting.default])  # type: ignore[assignment]
    field.metadata = list(setting.metadata)
    return field


# Options of the contract that this version does not carry out yet, with the value that means "off" and is taken.
LATER: dict[str, Any] = {
    "use_auto_editor": False,
    "keep_original_wav_ae": False,
    "ae_threshold": 0.06,
    "ae_margin": 0.2,
    "normalize_audio": False,
    "normalize_method": "ebu",
    "normalize_level": -24,
    "normalize_tp": -2,
    "normalize_lra": 7,
    "speed_factor": 1.0,
    "speed_factor_library": "auto",
    "trim": False,
    "trim_threshold_ms": 200,
}


# Fields that name a recording, which will take a web address one day.
BY_ADDRESS = ("reference_audio_filename", "input_audio_source", "target_voice_source")


def later(name: str) -> Any:
    return Field(default=None, description=f"not available in this version: null or {json.dumps(LATER[name])} only")


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


class RequestBody(BaseModel):
    """What the bodies of all generations have in common: how they are checked."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _refuse_a_flood_of_fields(cls, body: Any) -> Any:
        """One fault for all of them, where a fault each would be an answer of megabytes."""
        if isinstance(body, dict) and len(body) > 2 * len(cls.model_fields):
            raise PydanticCustomError("too_many_fields", "the body has {count} fields", {"count": len(body)})
        return body

    @field_validator(*LATER, check_fields=False)
    @classmethod
    def _refuse_what_is_to_come(cls, value: Any, info: ValidationInfo) -> Any:
        name = str(info.field_name)
        if value is not None and value != LATER[name]:
            raise PydanticCustomError("not_available_yet", "{name} is not available in this version", {"name": name})
        return value

    @field_validator(*BY_ADDRESS, check_fields=False)
    @classmethod
    def _refuse_addresses(cls, value: str | None) -> str | None:
        if value is not None and value.lower().startswith(("http://", "https://")):
            raise PydanticCustomError(
                "not_available_yet", "a recording by its web address is not available in this version", {}
            )
        return value

    @model_validator(mode="after")
    def _one_folder(self) -> Self:
        project, folder = getattr(self, "project", None), getattr(self, "folder", None)
        if project is not None and folder is not None and project != folder:
            raise PydanticCustomError("folder_conflict", "project and folder are the same option; they differ here", {})
        return self

    def options_of(self, section: type[Section]) -> dict[str, Any]:
        """The members of a section of the settings that this body gives a value."""
        given = {name: getattr(self, name, None) for name in section.model_fields}
        options = {name: value for name, value in given.items() if value is not None}
        if "export_formats" in options:
            options["export_formats"] = tuple(dict.fromkeys(options["export_formats"]))
        return options
