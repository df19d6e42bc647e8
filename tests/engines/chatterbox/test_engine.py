"""The engine without a server around it: who gets its models' time, and what is kept of whom."""

from __future__ import annotations

import hashlib
import io
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engines.base import (
    Cancellation,
    Cancelled,
    ChunkRequest,
    Conditionals,
    LoadProgress,
    Remark,
    Sampling,
    VoicePrompt,
    WindowRequest,
)
from engines.chatterbox.engine import ChatterboxEngine
from engines.chatterbox.options import ChatterboxOptions
from resilience.errors import GenerationFailed, InvalidAudio, ModelUnavailable
from tests.engines.chatterbox.checkpoints import STOP_AFTER
from tests.recordings import vowels, vowels_wav
from utils.audio.waveform import Waveform

LONG_TEXT = "And so it went on, from the morning to the evening, without an end in sight, day after day after day. " * 2


@pytest.fixture(scope="module")
def engine(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> ChatterboxEngine:
    return loaded(checkpoints, voice_folder=str(tmp_path_factory.mktemp("voices")))


def loaded(weights: Path, **options: object) -> ChatterboxEngine:
    engine = ChatterboxEngine(ChatterboxOptions(**{"model": "english", "weights": str(weights), **options}))  # type: ignore[arg-type]
    engine.load(lambda progress: None)
    return engine


def chunk(text: str = "It was late.", **changes: object) -> ChunkRequest:
    described = {
        "text": text,
        "language": "en",
        "voice": VoicePrompt("default"),
        "sampling": Sampling(0.5, 0.75, 0.5),
        "seed": 5,
        "model": "english",
        "is_last_attempt": True,
    }
    return ChunkRequest(**{**described, **changes})  # type: ignore[arg-type]


def pieces(
    engine: ChatterboxEngine, request: ChunkRequest, voice: Conditionals | None = None
) -> list[Waveform | Remark]:
    return list(engine.speak(request, voice, Cancellation()))


def samples(engine: ChatterboxEngine, request: ChunkRequest, voice: Conditionals | None = None) -> np.ndarray:
    spoken = [piece.samples for piece in pieces(engine, request, voice) if isinstance(piece, Waveform)]
    return np.concatenate(spoken)


def listen(engine: ChatterboxEngine, fundamental_hz: float, model: str = "english") -> Conditionals:
    content = vowels_wav(fundamental_hz)
    prompt = VoicePrompt("somebody", "somebody.wav", hashlib.sha256(content).hexdigest())
    return engine.prepare(model, prompt, io.BytesIO(content), Cancellation())


def test_it_says_what_each_variant_can_do(checkpoints: Path) -> None:
    info = ChatterboxEngine(ChatterboxOptions(model="english", weights=str(checkpoints))).load(lambda progress: None)

    by_name = {model.name: model for model in info.models}
    assert info.models[0].name == "english"
    assert set(by_name) == {"english", "turbo", "nano", "multilingual"}
    assert by_name["turbo"].takes == {"temperature", "top_p", "repetition_penalty"}
    assert "cfg_weight" in by_name["english"].takes
    assert len(by_name["multilingual"].languages) == 23
    assert not any(model.same_when_early for model in info.models)
    assert all(model.converts and model.clones_voices for model in info.models)


def test_loading_tells_what_it_is_at(checkpoints: Path) -> None:
    told: list[LoadProgress] = []
    ChatterboxEngine(ChatterboxOptions(model="nano", weights=str(checkpoints))).load(told.append)

    assert [progress.doing for progress in told] == ["loading nano"]


def test_a_processor_gets_nano_unless_only_others_are_here(checkpoints: Path) -> None:
    everything = ChatterboxEngine(ChatterboxOptions(weights=str(checkpoints), device="cpu"))
    english_only = ChatterboxEngine(ChatterboxOptions(weights=str(checkpoints / "english"), device="cpu"))

    assert everything.load(lambda progress: None).models[0].name == "nano"
    assert english_only.load(lambda progress: None).models[0].name == "english"


def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(ModelUnavailable, match="cuda:7"):
        ChatterboxEngine(ChatterboxOptions(device="cuda:7"))


def test_the_first_audio_of_an_early_chunk_leaves_before_its_last_token_is_decoded(engine: ChatterboxEngine) -> None:
    parts = engine.speak(chunk(early=True), None, Cancellation())
    first = next(parts)

    assert isinstance(first, Waveform)
    assert 0 < first.duration_s < STOP_AFTER * 0.04 / 2
    assert sum(part.duration_s for part in parts if isinstance(part, Waveform)) > first.duration_s


def test_early_and_whole_chunks_last_equally_long(engine: ChatterboxEngine) -> None:
    assert len(samples(engine, chunk(early=True))) == len(samples(engine, chunk())) == STOP_AFTER * 960


def test_an_early_chunk_does_not_wait_for_the_many_that_came_before_it(checkpoints: Path) -> None:
    engine = loaded(checkpoints, batch=2)
    order: list[str] = []
    waiting = [threading.Thread(target=note, args=(engine, chunk(LONG_TEXT), "whole", order)) for _ in range(8)]
    for thread in waiting:
        thread.start()
    note(engine, chunk(early=True), "early", order)
    for thread in waiting:
        thread.join(60)

    assert order.index("early") <= 2


def note(engine: ChatterboxEngine, request: ChunkRequest, name: str, order: list[str]) -> None:
    next(iter(engine.speak(request, None, Cancellation())))
    order.append(name)


def test_a_chunk_in_a_crowd_of_other_variants_and_voices_is_what_it_is_alone(engine: ChatterboxEngine) -> None:
    low, high = listen(engine, 90), listen(engine, 260)
    requests = [(chunk(), low), (chunk(), high), (chunk(model="nano"), None), (chunk(), None)]  # all with one seed
    alone = [samples(engine, request, voice) for request, voice in requests]
    together: list[Iterator[Waveform | Remark]] = [
        engine.speak(request, voice, Cancellation()) for request, voice in requests
    ]
    for expected, parts in zip(alone, together, strict=True):
        spoken = np.concatenate([part.samples for part in parts if isinstance(part, Waveform)])
        np.testing.assert_array_equal(spoken, expected)


def test_a_cancelled_chunk_leaves_within_a_step(engine: ChatterboxEngine) -> None:
    cancellation = Cancellation()
    parts = engine.speak(chunk(LONG_TEXT), None, cancellation)
    cancellation.cancel()

    with pytest.raises(Cancelled):
        list(parts)
    assert len(samples(engine, chunk())) == STOP_AFTER * 960
    assert not engine._fleet.models["english"].decoder.active


def test_a_voice_is_listened_to_once_and_found_on_disk_by_the_next_process(checkpoints: Path, tmp_path: Path) -> None:
    first = listen(loaded(checkpoints, voice_folder=str(tmp_path)), 120)
    content = vowels_wav(120)
    prompt = VoicePrompt("somebody", "somebody.wav", hashlib.sha256(content).hexdigest())
    nothing_to_hear = io.BytesIO(b"")

    again = loaded(checkpoints, voice_folder=str(tmp_path)).prepare("english", prompt, nothing_to_hear, Cancellation())

    assert vars_of(again) == vars_of(first)


def vars_of(voice: Conditionals) -> list[bytes]:
    names = ("speaker", "prompt_tokens", "reference_tokens", "reference_mel", "reference_speaker")
    return [getattr(voice, name).numpy().tobytes() for name in names]


def test_a_recording_without_a_voice_is_refused_and_nobody_else_suffers(engine: ChatterboxEngine) -> None:
    prompt = VoicePrompt("silence", "silence.wav", "0" * 64)
    with pytest.raises(InvalidAudio):
        engine.prepare("english", prompt, io.BytesIO(b"RIFF of nothing"), Cancellation())

    assert len(samples(engine, chunk())) == STOP_AFTER * 960


def test_speech_too_short_for_its_text_is_tried_again_and_told_in_the_end(engine: ChatterboxEngine) -> None:
    with pytest.raises(GenerationFailed, match="words may be missing"):
        pieces(engine, chunk(LONG_TEXT, is_last_attempt=False))

    remarks = [piece.text for piece in pieces(engine, chunk(LONG_TEXT)) if isinstance(piece, Remark)]
    assert any("words may be missing" in remark for remark in remarks)


def test_characters_that_the_model_never_sees_are_told(engine: ChatterboxEngine) -> None:
    remarks = [piece.text for piece in pieces(engine, chunk("It costs 5 €, my 友.")) if isinstance(piece, Remark)]

    assert any("€" in remark and "友" in remark for remark in remarks)


def test_variants_share_s3gen_where_its_weights_are_the_same(engine: ChatterboxEngine) -> None:
    for model in ("english", "multilingual", "turbo"):
        pieces(engine, chunk(model=model))
    models = engine._fleet.models

    assert models["english"].renderer is models["multilingual"].renderer
    assert models["english"].renderer is not models["turbo"].renderer


def test_variants_leave_memory_when_there_is_no_room_for_another_and_the_default_stays(checkpoints: Path) -> None:
    engine = loaded(checkpoints, memory_limit_mb=1)
    pieces(engine, chunk(model="nano"))
    pieces(engine, chunk(model="turbo"))

    assert "nano" not in engine.status().loaded
    assert "english" in engine.status().loaded


def test_all_who_wait_for_a_variant_that_cannot_be_loaded_are_told_at_once(checkpoints: Path, tmp_path: Path) -> None:
    shutil.copytree(checkpoints / "english", tmp_path / "english")
    shutil.copytree(checkpoints / "multilingual", tmp_path / "multilingual")
    vocabulary = tmp_path / "multilingual" / "grapheme_mtl_merged_expanded_v1.json"
    whole = vocabulary.read_text()
    vocabulary.write_text('{"model": {"vocab": {"[START]": 255, "[STOP]": 0}}}')
    engine = loaded(tmp_path)
    waiting = [engine.speak(chunk(model="multilingual"), None, Cancellation()) for _ in range(4)]

    for parts in waiting:
        with pytest.raises(ModelUnavailable, match="grapheme_mtl_merged_expanded_v1"):
            next(parts)
    assert "grapheme" in engine.status().problems["multilingual"]
    vocabulary.write_text(whole)

    assert len(samples(engine, chunk(model="multilingual"))) > 0
    assert len(samples(engine, chunk())) == STOP_AFTER * 960


def test_no_task_is_lost_among_many_while_speech_goes_on(engine: ChatterboxEngine) -> None:
    answers: list[int] = []

    def ask(number: int) -> None:
        for _ in range(30):
            answers.append(engine._thread.call("english", lambda _: number, Cancellation()))

    asking = [threading.Thread(target=ask, args=(number,), daemon=True) for number in range(6)]
    for thread in asking:
        thread.start()
    assert len(samples(engine, chunk())) == STOP_AFTER * 960
    for thread in asking:
        thread.join(60)

    assert len(answers) == 180


def test_speech_goes_on_between_the_stretches_of_a_long_conversion(engine: ChatterboxEngine) -> None:
    window = WindowRequest(vowels(150, 90.0), VoicePrompt("default"), seed=1, model="english")
    done: list[str] = []

    def convert() -> None:
        [converted] = engine.convert(window, None, Cancellation())
        done.append(f"{converted.duration_s:.0f} s converted")

    converting = threading.Thread(target=convert)
    converting.start()
    assert len(samples(engine, chunk())) == STOP_AFTER * 960
    done.append("spoken")
    converting.join(120)

    assert done == ["spoken", "90 s converted"]


@pytest.mark.parametrize("model", ["english", "multilingual", "turbo", "nano"])
@pytest.mark.parametrize("seconds", [1.0, 41.0])
def test_a_window_keeps_its_duration_with_another_voice(engine: ChatterboxEngine, model: str, seconds: float) -> None:
    window = WindowRequest(vowels(150, seconds), VoicePrompt("default"), seed=1, model=model)
    [converted] = engine.convert(window, None, Cancellation())

    assert converted.duration_s == pytest.approx(seconds, abs=0.04)
    assert np.isfinite(converted.samples).all()


def test_a_watermark_is_found_by_its_maker(engine: ChatterboxEngine) -> None:
    import perth

    marked = samples(engine, chunk(watermark=True))
    plain = samples(engine, chunk())
    listener = perth.PerthImplicitWatermarker()

    assert listener.get_watermark(marked, sample_rate=24_000) > listener.get_watermark(plain, sample_rate=24_000)


@pytest.mark.parametrize(("weights", "tokens"), [("v2", STOP_AFTER), ("v3", STOP_AFTER - 1)])
def test_the_third_multilingual_model_loses_the_noise_of_its_last_token(
    checkpoints: Path, tmp_path: Path, weights: str, tokens: int
) -> None:
    shutil.copytree(checkpoints / "multilingual", tmp_path / "multilingual")
    for other in {"v2", "v3"} - {weights}:
        (tmp_path / "multilingual" / f"t3_mtl23ls_{other}.safetensors").unlink()
    engine = loaded(tmp_path, model="multilingual")

    for early in (False, True):
        assert len(samples(engine, chunk(model="multilingual", early=early))) == tokens * 960
