"""Upstream's modules come out of a variant's files as upstream's own loaders make them, or a sentence says why not."""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from chatterbox.models.t3.modules.cond_enc import T3Cond
from chatterbox.models.tokenizers import tokenizer as upstream_tokenizer
from chatterbox.tts import Conditionals
from safetensors.torch import load_file, save_file

from engines.chatterbox.loading.modules import Modules, load_modules
from engines.chatterbox.variants import VARIANTS
from resilience.errors import ModelUnavailable
from tests.engines.chatterbox.architecture import LAYERS, NANO_LAYERS
from tests.engines.chatterbox.checkpoints import FOLDERS, files_of

CPU = torch.device("cpu")
KNOWN_UPSTREAM = ("english", "turbo", "multilingual")


def load(name: str, files: dict[str, Path]) -> Modules:
    return load_modules(VARIANTS[name], files, CPU)


def numbers_of(module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor that hangs on a module: weights, buffers, saved or not, and plain attributes such as windows."""
    for path, part in module.named_modules():
        members = {**vars(part), **part._parameters, **part._buffers}
        yield from ((f"{path}.{name}", value) for name, value in members.items() if isinstance(value, torch.Tensor))


@pytest.mark.parametrize("name", KNOWN_UPSTREAM)
def test_every_tensor_is_the_one_that_upstream_loads(
    name: str, checkpoints: Path, upstream_model: Callable[[str], Any]
) -> None:
    files = files_of(checkpoints, name)
    files.pop("t3_mtl23ls_v3.safetensors", None)  # which upstream does not know
    theirs = upstream_model(name)

    ours = load(name, files)

    for our_part, their_part in ((ours.t3, theirs.t3), (ours.s3gen, theirs.s3gen), (ours.voice_encoder, theirs.ve)):
        expected = dict(numbers_of(their_part))
        found = dict(numbers_of(our_part))
        assert found.keys() == expected.keys()
        assert [key for key in expected if not torch.equal(found[key], expected[key])] == []
        assert {tensor.dtype for tensor in our_part.parameters()} == {torch.float32}
        assert not our_part.training


@pytest.mark.parametrize("name", ["english", "turbo"])
def test_the_own_voice_is_the_one_that_upstream_loads(name: str, checkpoints: Path) -> None:
    files = files_of(checkpoints, name)
    conds = Conditionals.load(files["conds.pt"])

    voice = load(name, files).own_voice

    assert voice is not None
    assert torch.equal(voice.speaker, conds.t3.speaker_emb)
    assert torch.equal(voice.prompt_tokens, conds.t3.cond_prompt_speech_tokens)
    assert torch.equal(voice.reference_tokens, conds.gen["prompt_token"])
    assert torch.equal(voice.reference_mel, conds.gen["prompt_feat"])
    assert torch.equal(voice.reference_speaker, conds.gen["embedding"])


def test_a_model_without_a_voice_of_its_own_has_none(checkpoints: Path) -> None:
    files = files_of(checkpoints, "english")
    del files["conds.pt"]

    assert load("english", files).own_voice is None


def test_fault_8_nano_which_the_package_lacks_is_as_deep_as_its_weights_and_speaks(checkpoints: Path) -> None:
    files = files_of(checkpoints, "nano")

    nano = load("nano", files)

    assert len(nano.t3.tfmr.h) == NANO_LAYERS < LAYERS
    saved = load_file(files["t3_nano_v1.safetensors"])
    assert all(torch.equal(tensor, saved[name].float()) for name, tensor in nano.t3.state_dict().items())
    voice = nano.own_voice
    assert voice is not None
    condition = T3Cond(speaker_emb=voice.speaker, cond_prompt_speech_tokens=voice.prompt_tokens, emotion_adv=None)
    spoken = nano.t3.inference_turbo(condition, torch.tensor([[1, 2, 3]]), max_gen_len=5)
    assert spoken.shape[1] >= 1


def test_fault_8_the_third_multilingual_model_is_preferred_to_the_second(checkpoints: Path) -> None:
    files = files_of(checkpoints, "multilingual")

    t3 = load("multilingual", files).t3

    saved = load_file(files["t3_mtl23ls_v3.safetensors"])
    assert torch.equal(t3.text_emb.weight, saved["text_emb.weight"])


def test_faults_4_and_5_the_multilingual_model_loads_without_a_network(
    checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise ConnectionError("no network")

    segmenter = ModuleType("spacy_pkuseg")
    segmenter.pkuseg = unreachable  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "spacy_pkuseg", segmenter)
    monkeypatch.setattr(upstream_tokenizer, "hf_hub_download", unreachable)

    tokenizer = load("multilingual", files_of(checkpoints, "multilingual")).tokenizer

    assert tokenizer.cangjie_converter("早") == "[cj_a][cj_m][cj_.]"
    assert tokenizer.cangjie_converter("酒") == "[cj_l][cj_l][cj_e][cj_1][cj_.]"  # the second of this code


@pytest.mark.parametrize("name", VARIANTS)
def test_loading_says_nothing_and_leaves_the_random_state_alone(
    name: str, checkpoints: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    before = torch.get_rng_state()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(name, files_of(checkpoints, name))

    assert torch.equal(torch.get_rng_state(), before)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


@pytest.fixture
def damaged(checkpoints: Path, tmp_path: Path) -> Path:
    """The checkpoints once more, as links: a file is to be removed before another is written in its place."""
    return shutil.copytree(checkpoints, tmp_path / "damaged", copy_function=os.link)


@pytest.mark.parametrize(
    ("name", "file"),
    [(name, file) for name, variant in VARIANTS.items() for file in (variant.s3gen_file, variant.voice_encoder_file)]
    + [(name, variant.tokenizer_files[0]) for name, variant in VARIANTS.items()]
    + [(name, variant.t3_files[-1]) for name, variant in VARIANTS.items()],
)
def test_a_missing_file_is_named(name: str, file: str, checkpoints: Path) -> None:
    files = files_of(checkpoints, name)
    files.pop("t3_mtl23ls_v3.safetensors", None)
    del files[file]

    with pytest.raises(ModelUnavailable, match=file):
        load(name, files)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("english", "t3_cfg.safetensors"),
        ("english", "ve.safetensors"),
        ("english", "tokenizer.json"),
        ("english", "conds.pt"),
        ("multilingual", "s3gen.pt"),
        ("multilingual", "Cangjie5_TC.json"),
        ("turbo", "tokenizer_config.json"),
        ("turbo", "vocab.json"),
    ],
)
@pytest.mark.parametrize("kept", [0, 0.5])
def test_a_file_that_was_cut_short_is_named(name: str, file: str, kept: float, damaged: Path) -> None:
    path = damaged / FOLDERS[name] / file
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: int(len(content) * kept)])

    with pytest.raises(ModelUnavailable, match=r"damaged|incomplete") as caught:
        load(name, files_of(damaged, name))

    where = path.parent if name == "turbo" else path
    assert str(where) in caught.value.message


def test_a_tokenizer_without_its_vocabulary_is_refused(damaged: Path) -> None:
    files = files_of(damaged, "turbo")
    files["vocab.json"].unlink()

    with pytest.raises(ModelUnavailable, match="incomplete"):
        load("turbo", files)


@pytest.mark.parametrize(
    ("file", "of_another"),
    [
        (("english", "t3_cfg.safetensors"), ("multilingual", "t3_mtl23ls_v2.safetensors")),
        (("turbo", "t3_turbo_v1.safetensors"), ("english", "t3_cfg.safetensors")),
        (("turbo", "s3gen_meanflow.safetensors"), ("english", "s3gen.safetensors")),
        (("english", "ve.safetensors"), ("english", "s3gen.safetensors")),
        (("english", "conds.pt"), ("multilingual", "ve.pt")),
        (("english", "tokenizer.json"), ("turbo", "vocab.json")),
    ],
)
def test_a_file_of_another_model_is_named(
    file: tuple[str, str], of_another: tuple[str, str], checkpoints: Path
) -> None:
    name = file[0]
    files = files_of(checkpoints, name)
    files[file[1]] = checkpoints / of_another[0] / of_another[1]

    with pytest.raises(ModelUnavailable, match=of_another[1]):
        load(name, files)


def test_a_file_that_lacks_a_tensor_is_named_with_it(damaged: Path) -> None:
    files = files_of(damaged, "english")
    tensors = load_file(files["t3_cfg.safetensors"])
    del tensors["speech_head.weight"]
    files["t3_cfg.safetensors"].unlink()
    save_file(tensors, files["t3_cfg.safetensors"])

    with pytest.raises(ModelUnavailable, match=r"t3_cfg.safetensors lacks 1 .* speech_head.weight"):
        load("english", files)
