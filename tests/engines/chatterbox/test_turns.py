"""Whose tokens become sound, and with whom: on a processor at once and alone, on a GPU in company."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engines.base import Cancellation, ChunkRequest, Sampling, VoicePrompt
from engines.chatterbox.chance import chance
from engines.chatterbox.fleet import Fleet, LoadedModel
from engines.chatterbox.options import ChatterboxOptions
from engines.chatterbox.t3.sequence import SpeechSequence
from engines.chatterbox.turns import GATHER_S, due
from engines.chatterbox.work import SpeakingChunk

CPU = torch.device("cpu")
ON_CPU, ON_GPU = 1, 4  # how many are rendered together
STOP = 6562


@pytest.fixture(scope="module")
def model(checkpoints: Path) -> LoadedModel:
    return Fleet(ChatterboxOptions(weights=str(checkpoints)), CPU, batch=8).load("english", lambda progress: None)


def chunk(
    model: LoadedModel, tokens: int, *, early: bool = False, ends: bool = False, steps: int = 10
) -> SpeakingChunk:
    """A chunk that has so many tokens, the last one the stop token if it `ends`."""
    request = ChunkRequest("It was late.", "en", VoicePrompt("default"), Sampling(0.5, 0.8, 0.5), seed=1, early=early)
    made = SpeakingChunk(request, model.own_voice, steps, Cancellation(), model=model)
    made.sequence = SpeechSequence("llama", STOP, max_tokens=500)
    for token in range(tokens):
        made.sequence.take(token)
    if ends:
        made.sequence.take(STOP)
    if early:
        assert model.own_voice is not None
        made.stream = model.renderer.stream(model.own_voice, chance(1, CPU), steps)
    return made


def test_on_a_processor_whoever_is_spoken_is_rendered_at_once_and_alone(model: LoadedModel) -> None:
    spoken, other, speaking = chunk(model, 50, ends=True), chunk(model, 60, ends=True), chunk(model, 30)

    assert due([spoken, other, speaking], ON_CPU) == [[spoken]]
    assert due([speaking], ON_CPU) == []


def test_on_a_gpu_whoever_is_spoken_waits_for_others_but_not_for_long(model: LoadedModel) -> None:
    spoken, speaking = chunk(model, 50, ends=True), chunk(model, 30)
    assert due([spoken, speaking], ON_GPU) == []

    assert spoken.ready_at is not None
    spoken.ready_at -= 2 * GATHER_S

    assert due([spoken, speaking], ON_GPU) == [[spoken]]


def test_nobody_waits_for_nobody(model: LoadedModel) -> None:
    spoken, other = chunk(model, 50, ends=True), chunk(model, 60, ends=True)

    assert due([spoken], ON_GPU) == [[spoken]]
    assert due([spoken, other], ON_GPU) == [[spoken, other]]


def test_a_batch_is_no_larger_than_it_may_be_and_of_one_kind(model: LoadedModel) -> None:
    many = [chunk(model, 50, ends=True) for _ in range(6)]
    others = [chunk(model, 50, ends=True, steps=5) for _ in range(2)]

    assert due([*many, *others], ON_GPU) == [many[:ON_GPU]]
    assert due([*others, *many], ON_GPU) == [others]


def test_more_pieces_than_go_together_are_several_batches(model: LoadedModel) -> None:
    ready = [chunk(model, 12, early=True) for _ in range(6)]

    assert due(ready, ON_GPU) == [ready[:ON_GPU], ready[ON_GPU:]]


def test_a_first_sound_does_not_wait_for_who_has_sounded(model: LoadedModel) -> None:
    silent, near = chunk(model, 12, early=True), chunk(model, 9, early=True)
    near.has_sounded = True

    assert due([near, silent], ON_GPU) == [[silent]]


def test_a_piece_is_due_when_its_tokens_are_there(model: LoadedModel) -> None:
    assert due([chunk(model, 11, early=True)], ON_CPU) == []
    ready = chunk(model, 12, early=True)
    assert due([ready], ON_CPU) == [[ready]]
    ended = chunk(model, 5, early=True, ends=True)
    assert due([ended], ON_CPU) == [[ended]]


def test_on_a_gpu_a_piece_waits_for_one_that_is_nearly_due(model: LoadedModel) -> None:
    ready, near, far = (chunk(model, tokens, early=True) for tokens in (12, 9, 2))

    assert due([ready, near, far], ON_GPU) == []
    assert due([ready, near, far], ON_CPU) == [[ready]]
    assert due([ready, far], ON_GPU) == [[ready]]


def test_first_sounds_come_before_further_pieces_and_those_before_whole_chunks(model: LoadedModel) -> None:
    sounding, silent, whole = chunk(model, 12, early=True), chunk(model, 12, early=True), chunk(model, 9, ends=True)
    sounding.has_sounded = True

    assert due([sounding, silent, whole], ON_CPU) == [[silent], [sounding], [whole]]


def test_a_chunk_without_speech_needs_nobody(model: LoadedModel) -> None:
    mute, spoken, speaking = chunk(model, 0, ends=True), chunk(model, 50, ends=True), chunk(model, 30)

    assert due([spoken, mute, speaking], ON_GPU) == [[mute]]
    assert due([spoken, mute], ON_CPU) == [[mute], [spoken]]


def test_a_whole_chunk_does_not_go_before_a_piece_that_waits(model: LoadedModel) -> None:
    ready, near, whole = chunk(model, 12, early=True), chunk(model, 9, early=True), chunk(model, 50, ends=True)

    assert due([ready, near, whole], ON_GPU) == []

    assert ready.ready_at is not None
    ready.ready_at -= 2 * GATHER_S

    assert due([ready, near, whole], ON_GPU) == [[ready], [whole]]


def test_the_first_sound_of_one_kind_comes_before_a_further_piece_of_another(model: LoadedModel) -> None:
    sounding, silent = chunk(model, 12, early=True), chunk(model, 12, early=True, steps=5)
    sounding.has_sounded = True

    assert due([sounding, silent], ON_GPU) == [[silent], [sounding]]
