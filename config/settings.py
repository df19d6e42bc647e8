"""Every setting of the server: its default, its range, its unit. The only place a default is written.

`config.yaml` and `docs/configuration.md` are printed from these classes (`python -m config.document`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

AudioFormatName = Literal["wav", "mp3", "flac", "opus", "aac", "pcm"]
SpeedLibrary = Literal["auto", "audiostretchy", "librosa", "torchaudio"]
LoudnessMethod = Literal["ebu", "peak"]
CrossfadeCurve = Literal["equal_power", "linear"]
WhisperName = Literal["tiny", "base", "small", "medium", "large"]


def each_once(names: tuple[AudioFormatName, ...]) -> tuple[AudioFormatName, ...]:
    return tuple(dict.fromkeys(names))


class Section(BaseModel):
    """A group of settings. Unknown keys are refused; a section is never changed after the start."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ServerSettings(Section):
    """Where the server listens."""

    host: str = Field("127.0.0.1", min_length=1, description="address to listen on; 0.0.0.0 opens it to the network")
    port: int = Field(7860, ge=0, le=65535, description="TCP port; 0 takes a free one and logs it")
    shutdown_grace_s: int = Field(
        30, ge=0, le=3600, description="seconds that requests in progress may take to finish after a stop signal"
    )
    cors_origin_regex: re.Pattern[str] = Field(
        re.compile(r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?"),
        description="regular expression of the web origins whose pages may read our answers",
    )


class StorageSettings(Section):
    """Where files are kept."""

    data_dir: Path = Field(
        Path("data"),
        description="folder of voices/, vc_inputs/, outputs/, consents/; a relative path starts at the project",
    )
    min_free_mb: int = Field(
        256, ge=0, description="megabytes of disk that stay free; below it saving is refused (507)"
    )
    rescan_s: float = Field(
        600.0,
        ge=5,
        description="seconds between looks through the folders for changes by hand that the system did not report",
    )
    longest_audio_h: float = Field(
        12.0,
        gt=0,
        le=1000,
        description="hours of one recording, longer is refused; fewer hours above the samples of stereo at 48 kHz",
    )


class CleanupSettings(Section):
    """What housekeeping removes, and when. It never touches a file in use, or one that is younger than a minute."""

    at_start: bool = Field(True, description="clean up when the server starts")
    interval_h: float = Field(4.0, ge=0, le=8760, description="hours between clean-ups; 0 = none but that at the start")
    broken_files: bool = Field(True, description="remove audio files that are empty or cannot be decoded")
    max_outputs_mb: int = Field(
        0, ge=0, description="megabytes of outputs/ before the oldest files are removed; 0 = no limit"
    )
    max_vc_inputs_mb: int = Field(
        0, ge=0, description="megabytes of vc_inputs/ before the oldest files are removed; 0 = no limit"
    )


class ApiSettings(Section):
    """Limits of a request."""

    max_text_length: int = Field(10_000, ge=1, le=1_000_000, description="characters of text in one request")
    max_body_kb: int = Field(512, ge=16, description="kilobytes of a JSON body; larger is refused (413)")
    max_upload_mb: int = Field(100, ge=1, le=100_000, description="megabytes of one uploaded file (413)")
    max_bulk_upload_mb: int = Field(
        1000, ge=1, le=1_000_000, description="megabytes of one request that uploads several files (413)"
    )
    max_restore_mb: int = Field(
        4000, ge=1, le=1_000_000, description="megabytes of a backup that is restored, packed and unpacked (413)"
    )


# a host, or * and what it ends with, or * alone; then the port, or * for all; IPv6 in brackets
AllowedHost = Annotated[
    str,
    Field(
        max_length=300,
        pattern=r"^(\*|(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?|\[[0-9A-Fa-f:.]+\])(:(\*|[1-9][0-9]{0,4}))?$",
    ),
]
WEB_PORTS = (80, 443)
FIRST_UNPRIVILEGED_PORT = 1024


class FetchSettings(Section):
    """Recordings that a request names by their web address."""

    enabled: bool = Field(True, description="false = no request may name a recording by its web address")
    allowed_hosts: tuple[AllowedHost, ...] = Field(
        (),
        description="hosts to ask: `a.org`, `*.a.org`, `a.org:8080`, `a.org:*`; empty = any public one, ports 80, 443",
    )
    allow_private: bool = Field(
        False, description="true = hosts of this machine and its network too; for tests and closed networks"
    )
    max_mb: int = Field(100, ge=1, le=100_000, description="megabytes of one recording; larger is refused (413)")
    timeout_s: float = Field(30.0, gt=0, le=3600, description="seconds for one recording, all attempts together")
    redirects: int = Field(5, ge=0, le=20, description="redirects that are followed, each checked as the first address")
    attempts: int = Field(3, ge=1, le=10, description="tries if the other server fails (5xx) or the connection breaks")
    at_once: int = Field(4, ge=1, le=100, description="recordings that are fetched at a time; others wait")

    @field_validator("allowed_hosts")
    @classmethod
    def _can_be_asked(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        for entry in entries:
            port = entry.rpartition("]")[2].partition(":")[2]
            if entry.startswith("["):
                ip_address(entry[1:].partition("]")[0])
            if port.isdigit() and int(port) not in (*WEB_PORTS, *range(FIRST_UNPRIVILEGED_PORT, 65_536)):
                raise ValueError(f"{entry}: the port must be 80, 443 or from 1024 to 65535")
        return entries


class EngineSettings(Section):
    """The engine that speaks, and the line in front of it."""

    name: Literal["auto", "chatterbox", "embedded"] = Field(
        "auto",
        description="auto = Chatterbox if it is installed and its weights are here or can be fetched, else `fallback`",
    )
    fallback: Literal["embedded", "none"] = Field(
        "embedded", description="what `auto` takes when Chatterbox cannot be had; none = answer 503 instead"
    )
    hub_timeout_s: float = Field(
        8.0, ge=0.5, le=60, description="seconds to find out whether the Hugging Face hub can be reached"
    )
    max_waiting: int = Field(
        64,
        ge=1,
        le=10_000,
        description="requests that may be in line for the engine before 503, the spoken ones included",
    )
    request_timeout_s: float = Field(
        600.0,
        gt=0,
        description="seconds from taking a place in line until all of a request must be spoken (504)",
    )
    start_timeout_s: float = Field(
        600.0, gt=0, description="seconds that loading the engine may take, counted anew as long as a download goes on"
    )
    start_patience_s: float = Field(
        60.0, ge=0, description="seconds that a request waits for an engine that is starting or restarting before 503"
    )
    heartbeat_timeout_s: float = Field(
        6.0, ge=2, description="seconds of silence after which the engine process counts as hung and is replaced"
    )
    cancel_grace_s: float = Field(
        15.0, gt=0, description="seconds in which the engine must leave cancelled work before its process is replaced"
    )
    step_timeout_s: float = Field(
        120.0, gt=0, description="seconds that one step of a model may take before the engine process is replaced"
    )
    voice_cache_mb: int = Field(256, ge=1, description="megabytes of prepared voices kept in the engine's memory")


class ChatterboxSettings(Section):
    """Resemble AI's Chatterbox: which variant, its files, the device, and how exactly it computes."""

    model: Literal["auto", "english", "turbo", "nano", "multilingual"] = Field(
        "auto",
        description="variant for requests that name none; auto = turbo on a GPU, nano on a CPU, else one that is here",
    )
    weights: Path | None = Field(
        None,
        description="folder with the files of a variant, or with a sub-folder for each; null = the Hugging Face cache",
    )
    offline: bool = Field(False, description="true = weights are never fetched from the Hugging Face hub")
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        description="auto = a GPU if there is one; cpu, mps, cuda, cuda:1",
    )
    t3_precision: Literal["auto", "fp32", "fp16", "bf16", "int8"] = Field(
        "auto",
        description="numbers of T3; fp32 = exactly the package's; auto = int8, on CUDA bf16 if it can, on MPS fp32",
    )
    s3gen_precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="numbers of the model that makes sound; auto = bf16 where the processor has them"
    )
    cuda_graphs: bool = Field(
        True, description="record the models' steps on NVIDIA devices; false = slower, if a device does not take to it"
    )
    flow_steps: int = Field(
        10, ge=1, le=50, description="steps of english and multilingual from tokens to sound; fewer: faster, rougher"
    )
    batch: int = Field(
        0, ge=0, le=128, description="chunks that are spoken at once; 0 = 8 on a CPU, 32 on a GPU; memory grows with it"
    )
    threads: int = Field(
        0, ge=0, le=256, description="processor threads of the models; 0 = one for each core, or OMP_NUM_THREADS"
    )
    unload_after_s: float = Field(
        900.0, ge=0, description="seconds without work after which a variant leaves memory, the default one stays"
    )
    memory_limit_mb: int = Field(
        0, ge=0, description="megabytes of weights before the least recently used variant leaves; 0 = no limit"
    )
    voice_disk_mb: int = Field(512, ge=0, description="megabytes of prepared voices kept in the data folder")


class ValidationSettings(Section):
    """Who listens to the candidates of a chunk. Without being asked only Whisper does, if its weights are here."""

    weights: Path | None = Field(
        None, description="folder with a CTranslate2 Whisper, or a sub-folder for each; null = the Hugging Face cache"
    )
    offline: bool = Field(False, description="true = Whisper is never fetched from the Hugging Face hub")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="what Whisper runs on; auto = the processor")
    threads: int = Field(0, ge=0, le=256, description="processor threads of Whisper; 0 = its own choice")


class ExportSettings(Section):
    """The files that are made of a sound."""

    export_formats: Annotated[tuple[AudioFormatName, ...], Field(min_length=1)] = Field(
        ("wav", "mp3"), description="files made of it; the first is the one streamed"
    )
    mp3_bitrate_kbps: int = Field(128, ge=64, le=160, description="kilobits per second of mp3 files at 24 kHz")
    opus_bitrate_kbps: int = Field(64, ge=12, le=256, description="kilobits per second of opus files, about")
    aac_bitrate_kbps: int = Field(96, ge=32, le=192, description="kilobits per second of aac files, about")

    _each_once = field_validator("export_formats")(each_once)


# Options of sound that mean something only beside another one.
NEEDED = {
    "keep_original_wav_ae": "use_auto_editor",
    "ae_threshold": "use_auto_editor",
    "ae_margin": "use_auto_editor",
    "trim_threshold_ms": "trim",
    "normalize_method": "normalize_audio",
    "normalize_level": "normalize_audio",
    "normalize_tp": "normalize_audio",
    "normalize_lra": "normalize_audio",
}


class SoundSettings(ExportSettings):
    """What is done to the sound of all that is made, and the files that are made of it."""

    disable_watermark: bool = Field(True, description="false = watermark, by the models that have one")
    use_auto_editor: bool = Field(False, description="shorten the silences inside")
    keep_original_wav_ae: bool = Field(False, description="keep what it was before its silences were shortened, too")
    ae_threshold: float = Field(0.06, ge=0, le=1, description="what is quieter, as a share of the peak, is silence")
    ae_margin: float = Field(0.2, ge=0, le=1, description="seconds that are kept of a silence on both sides of speech")
    speed_factor: float = Field(1.0, ge=0.5, le=2, description="2 = twice as fast; the pitch is kept")
    speed_factor_library: SpeedLibrary = Field(
        "auto", description="what changes the speed; auto = the first that is there; one that is not: the next"
    )
    trim: bool = Field(False, description="cut silence at both ends; 50 ms are kept")
    trim_threshold_ms: int = Field(200, ge=50, le=1000, description="least milliseconds of silence that are cut")
    normalize_audio: bool = Field(False, description="bring it to `normalize_level`")
    normalize_method: LoudnessMethod = Field(
        "ebu", description="ebu = loudness by BS.1770-4 under a true-peak limiter; peak = the largest sample"
    )
    normalize_level: float = Field(-24.0, ge=-70, le=0, description="LUFS; dBFS with the method peak")
    normalize_tp: float = Field(-2.0, ge=-9, le=0, description="highest true peak in dBTP; with the method ebu")
    normalize_lra: float = Field(
        7.0, ge=1, le=50, description="greatest loudness range in LU; it is narrowed only where it is wider"
    )
    save: bool = Field(True, description="keep what was sent live, too; all else is kept in any case")

    def without_effect(self, given: Iterable[str]) -> list[str]:
        """A sentence for each of the options named in `given` that changes nothing beside the others."""
        sentences = []
        for name in given:
            if name in NEEDED and getattr(self, name) is not False and not getattr(self, NEEDED[name]):
                sentences.append(f"{name} has no effect without {NEEDED[name]}")
            elif name in ("normalize_tp", "normalize_lra") and self.normalize_method == "peak":
                sentences.append(f"{name} has no effect with normalize_method peak")
            elif name == "speed_factor_library" and self.speed_factor == 1:
                sentences.append(f"{name} has no effect at the speed of 1")
        return sentences


class SpeechSettings(SoundSettings):
    """What a speech request means where it says nothing."""

    default_voice: str | None = Field(
        None, description="voice for requests that name none: a file below voices/, an engine's own; null = its first"
    )
    language: str = Field("en", min_length=2, max_length=35, description="language of the text")
    exaggeration: float = Field(0.5, ge=0, le=2, description="liveliness of the performance")
    temperature: float = Field(0.75, ge=0.1, le=2, description="variation between seeds")
    cfg_weight: float = Field(1.0, ge=0, le=2, description="how closely pace and style follow the text and the voice")
    min_p: float | None = Field(None, ge=0, le=1, description="null = the model's own")
    top_p: float | None = Field(None, ge=0, le=1, description="null = the model's own")
    repetition_penalty: float | None = Field(None, ge=1, le=2, description="null = the model's own")
    num_candidates_per_chunk: int = Field(
        3, ge=1, le=10, description="candidates of each chunk, where a transcriber compares them"
    )
    max_attempts_per_candidate: int = Field(
        3, ge=1, le=10, description="tries for a chunk that comes out empty, runs on, or is not understood"
    )
    bypass_whisper_checking: bool = Field(False, description="true = one candidate, nobody listens to it")
    whisper_model_name: WhisperName = Field("medium", description="Whisper model that listens, if it can be had")
    use_faster_whisper: bool = Field(True, description="false = listen with the offline recogniser instead of Whisper")
    use_longest_transcript_on_fail: bool = Field(
        True, description="if no candidate passes, take the one with the longest transcript; false = the best one"
    )
    enable_batching: bool = Field(False, description="group sentences up to `chunk_characters`")
    smart_batch_short_sentences: bool = Field(True, description="speak a very short sentence with its neighbour")
    to_lowercase: bool = Field(True, description="speak the text in lower case")
    normalize_spacing: bool = Field(True, description="runs of blanks become one space, blank lines stay paragraphs")
    fix_dot_letters: bool = Field(True, description="J.R.R. becomes J R R")
    remove_reference_numbers: bool = Field(True, description="citation marks such as [12] are not read aloud")
    chunk_characters: int = Field(300, ge=40, le=2000, description="longest chunk given to the engine, in characters")
    clause_pause_ms: int = Field(60, ge=0, le=5000, description="least pause inside a sentence too long for one chunk")
    sentence_pause_ms: int = Field(280, ge=0, le=5000, description="least pause between sentences")
    paragraph_pause_ms: int = Field(650, ge=0, le=10_000, description="least pause between paragraphs")


MOST_OVERLAP = 0.9  # of a window: what overlaps is converted as often as there are windows over it


class ConversionSettings(SoundSettings):
    """What a request for voice conversion means where it says nothing."""

    chunk_sec: float = Field(60.0, ge=1, le=300, description="seconds of the recording that are converted at once")
    overlap_sec: float = Field(
        0.1,
        ge=0,
        le=5,
        description="seconds that neighbouring windows share and cross-fade over; at most 0.9 `chunk_sec`",
    )

    @model_validator(mode="after")
    def _windows_go_on(self) -> ConversionSettings:
        if self.overlap_sec > self.chunk_sec * MOST_OVERLAP:
            raise ValueError("overlap_sec must be at most nine tenths of chunk_sec")
        return self


class ConcatenationSettings(ExportSettings):
    """What a request to join files means where it says nothing."""

    export_formats: Annotated[tuple[AudioFormatName, ...], Field(min_length=1)] = Field(
        ("wav",), description="files made of it; the first is the one streamed"
    )
    channels: Literal["mono", "stereo", "auto"] = Field("mono", description="auto = stereo if any of the files is")
    normalize_levels: bool = Field(True, description="bring each file to `level_lufs`")
    level_lufs: float = Field(-24.0, ge=-70, le=0, description="LUFS of each file, by BS.1770-4")
    level_tp: float = Field(
        -2.0, ge=-9, le=0, description="dBTP that no file is lifted above; a limiter works on those that would be"
    )
    crossfade_ms: int = Field(0, ge=0, le=5000, description="milliseconds that files share where they meet directly")
    crossfade_curve: CrossfadeCurve = Field(
        "equal_power", description="of crossfades and fades; equal_power = sine and cosine, linear = straight lines"
    )
    pause_duration_ms: int = Field(
        0, ge=0, le=3000, description="milliseconds of the pauses between files that have no silence between them"
    )
    pause_variation_ms: int = Field(
        200, ge=0, le=500, description="milliseconds by which each pause is longer or shorter at most; none is under 50"
    )
    trim: bool = Field(False, description="cut silence at both ends of each file; 50 ms are kept")
    trim_threshold_ms: int = Field(200, ge=50, le=1000, description="least milliseconds of silence that are cut")


OPENAI_MODELS = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts", "gpt-4o-mini-tts-2025-12-15")
ShortName = Annotated[str, Field(min_length=1, max_length=200)]


class OpenAISettings(Section):
    """OpenAI's speech API below /v1: what its names mean here."""

    save: bool = Field(False, description="true = keep what is spoken in the outputs library, as `save` of a request")
    voices: dict[ShortName, ShortName] = Field(
        {},
        description="voices for OpenAI's names, as in `{alloy: narrators/anna}`; the others get the engine's own",
    )
    models: dict[ShortName, ShortName | None] = Field(
        dict.fromkeys(OPENAI_MODELS),
        description="other names of models, such as `{tts-1: turbo}`; null = the engine's default; OpenAI's stay known",
    )
    dictation_idle_s: float = Field(
        60.0, gt=0, le=3600, description="seconds that a WebSocket may be silent on both sides before it is closed"
    )

    @field_validator("models")
    @classmethod
    def _beside_openais(cls, models: dict[str, str | None]) -> dict[str, str | None]:
        return {**dict.fromkeys(OPENAI_MODELS), **models}


class LoggingSettings(Section):
    """What the log says and how."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="least level that is written")
    format: Literal["text", "json"] = Field("text", description="lines for people, or one JSON object a line")
    access: bool = Field(True, description="one line for each request")


class Settings(Section):
    """All sections, in the order of config.yaml."""

    server: ServerSettings = ServerSettings()
    storage: StorageSettings = StorageSettings()
    cleanup: CleanupSettings = CleanupSettings()
    api: ApiSettings = ApiSettings()
    fetch: FetchSettings = FetchSettings()
    engine: EngineSettings = EngineSettings()
    chatterbox: ChatterboxSettings = ChatterboxSettings()
    validation: ValidationSettings = ValidationSettings()
    speech: SpeechSettings = SpeechSettings()
    conversion: ConversionSettings = ConversionSettings()
    concatenation: ConcatenationSettings = ConcatenationSettings()
    openai: OpenAISettings = OpenAISettings()
    logging: LoggingSettings = LoggingSettings()
