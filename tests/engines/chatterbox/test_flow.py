"""Speech tokens to mel spectrograms: upstream's numbers, in a batch too."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch

from engines.chatterbox.s3gen.estimator import best_precision
from engines.chatterbox.s3gen.flow import Flow, FlowRow
from tests.engines.chatterbox.small_s3gen import (
    STEPS,
    conditions,
    make_s3gen,
    make_tokens,
    make_voice,
    unchecked,
    upstream_mel,
)

pytestmark = pytest.mark.model


@pytest.fixture(scope="module", params=[False, True], ids=["ten steps", "meanflow"])
def s3gen(request, architecture):
    return make_s3gen(request.param)


@pytest.fixture(scope="module")
def flow(s3gen):
    return Flow(s3gen.flow, is_meanflow=s3gen.meanflow, precision="fp32")


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.inference_mode():
        yield


def row(flow, tokens, voice, seed):
    noise = flow.noise(voice, len(tokens), torch.Generator().manual_seed(seed))
    return FlowRow(tokens, voice, noise)


def difference(ours, theirs):
    assert ours.shape == theirs.shape
    return ((ours - theirs).norm() / theirs.norm()).item()


def test_a_row_alone_is_what_upstream_makes_of_the_same_seed(s3gen, flow):
    tokens, voice = make_tokens(1, 30), make_voice(1)

    [mel] = flow.mels([row(flow, tokens, voice, seed=5)], STEPS[s3gen.meanflow], unchecked)

    assert difference(mel, upstream_mel(s3gen, tokens, voice, seed=5)) < 1e-5


def test_rows_of_other_length_voice_and_prompt_do_not_touch_each_other(s3gen, flow):
    counts = (30, 44, 3, 17)
    voices = [make_voice(0), make_voice(1, 7, stray_frames=1), make_voice(2, 33), make_voice(3, 5)]
    spoken = [make_tokens(seed, count) for seed, count in enumerate(counts)]

    rows = [row(flow, tokens, voice, seed) for seed, (tokens, voice) in enumerate(zip(spoken, voices, strict=True))]
    mels = flow.mels(rows, STEPS[s3gen.meanflow], unchecked)

    for seed, mel in enumerate(mels):
        assert difference(mel, upstream_mel(s3gen, spoken[seed], voices[seed], seed)) < 1e-5


def test_a_text_that_goes_on_is_made_up_to_where_the_encoder_can_see(s3gen, flow):
    tokens, voice = make_tokens(1, 30), make_voice(1)
    whole = row(flow, tokens, voice, seed=5)
    unseen = flow.lookahead * flow.frames_per_token

    [mel] = flow.mels([FlowRow(tokens, voice, whole.noise[:-unseen])], 2, unchecked)

    assert mel.shape == (80, 60 - unseen)
    assert difference(mel, trimmed_by_upstream(s3gen, tokens, voice, whole.noise, unseen)) < 1e-5


def trimmed_by_upstream(s3gen, tokens, voice, noise, unseen):
    """What upstream's parts make of the same: its encoder's output trimmed by hand, then its solver."""
    flow = s3gen.flow
    packed = torch.cat([voice.reference_tokens, torch.tensor([tokens])], dim=1)
    hidden, _ = flow.encoder(flow.input_embedding(packed), torch.tensor([packed.shape[1]]))
    mu = flow.encoder_proj(hidden[:, :-unseen]).transpose(1, 2).contiguous()
    prompt_frames = voice.reference_mel.shape[1]
    prompt = torch.zeros_like(mu)
    prompt[:, :, :prompt_frames] = voice.reference_mel.transpose(1, 2)
    speaker = flow.spk_embed_affine_layer(torch.nn.functional.normalize(voice.reference_speaker, dim=1))
    times = torch.linspace(0, 1, 3)
    solve = flow.decoder.basic_euler if s3gen.meanflow else flow.decoder.solve_euler
    times = times if s3gen.meanflow else 1 - torch.cos(times * 0.5 * torch.pi)
    mel = solve(noise[:-unseen].t()[None], times, mu, torch.ones_like(mu[:, :1]), speaker, prompt)
    return mel[0, :, prompt_frames:]


def test_upstream_itself_cannot_make_a_text_that_goes_on(s3gen):
    reference = conditions(make_voice(1))

    with pytest.raises(RuntimeError, match="size"):
        s3gen.flow_inference(torch.tensor([make_tokens(1, 30)]), ref_dict=reference, finalize=False)


def test_the_number_of_steps_is_the_callers(flow):
    checks = []

    flow.mels([row(flow, make_tokens(1, 5), make_voice(1), seed=5)], 3, lambda: checks.append(1))

    assert len(checks) == 3


def test_in_bf16_a_mel_spectrogram_is_close(s3gen, flow):
    coarse = Flow(s3gen.flow, is_meanflow=s3gen.meanflow, precision="bf16")
    given = row(flow, make_tokens(1, 30), make_voice(1), seed=5)

    [exact], [close] = (each.mels([given], 2, unchecked) for each in (flow, coarse))

    assert 1e-6 < difference(close, exact) < 0.01


def test_the_parameters_keep_their_values_and_names(s3gen):
    before = {name: value.clone() for name, value in s3gen.flow.state_dict().items()}

    Flow(s3gen.flow, is_meanflow=s3gen.meanflow, precision="fp32")

    after = s3gen.flow.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_processor_without_bf16_units_computes_in_fp32(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)

    assert best_precision(torch.device("cpu")) == "fp32"
