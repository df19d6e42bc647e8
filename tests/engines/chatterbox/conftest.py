"""Small checkpoints for the tests of this folder, which are skipped with a reason where the full layer is absent."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from tests.engines.chatterbox.architecture import architecture as small_architecture
from tests.engines.chatterbox.checkpoints import FOLDERS, build

WITHOUT_MODEL = frozenset({"test_guard.py", "test_weights.py"})  # these run on the light layer too


# What Chatterbox's dependencies warn of while they are imported, made and used: nothing that is ours to change.
THIRD_PARTY_WARNINGS = (
    "ignore:pkg_resources is deprecated:UserWarning",  # perth
    "ignore:`LoRACompatibleLinear` is deprecated:FutureWarning",  # diffusers, from S3Gen's decoder
    "ignore:Deprecated in 0.9.0. BPE.__init__:DeprecationWarning",  # transformers, GPT-2's tokenizer
    "ignore:`torch.backends.cuda.sdp_kernel:FutureWarning",  # the perceiver's attention
    "ignore:'(aifc|audioop|sunau)' is deprecated:DeprecationWarning",  # audioread, from librosa.load
)


class ModelTests(pytest.Module):
    """A file of tests that imports torch and Chatterbox: marked `model`, read only where they are installed."""

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        if find_spec("chatterbox") is None:
            pytest.skip("needs Chatterbox: install the full layer", allow_module_level=True)
        self.add_marker("model")
        for warning in THIRD_PARTY_WARNINGS:
            self.add_marker(pytest.mark.filterwarnings(warning))
        _import_chatterbox()
        return super().collect()


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    if module_path.name in WITHOUT_MODEL:
        return None
    return ModelTests.from_parent(parent, path=module_path)


def _import_chatterbox() -> None:
    """Offline, which is settled at import, and on one thread: on a busy machine more of them are slower."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "pkg_resources is deprecated", UserWarning)
        import chatterbox.tts_turbo  # noqa: F401
        import torch
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def architecture(request: pytest.FixtureRequest) -> Iterator[None]:
    """Chatterbox is small in all tests of this folder that have to do with it."""
    if not any(item.get_closest_marker("model") for item in request.session.items):
        yield
        return
    with small_architecture():
        yield


@pytest.fixture(scope="session")
def checkpoints(architecture: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with english/, turbo/ (Nano's file too) and multilingual/."""
    return build(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="session")
def upstream_model(checkpoints: Path) -> Callable[[str], Any]:
    """Upstream's own english, turbo or multilingual, loaded once: whoever changes it changes it back.

    The multilingual one gets the table of Cangjie codes that it does not find without a network.
    """

    @functools.cache
    def load(name: str) -> Any:
        from chatterbox import mtl_tts, tts, tts_turbo

        models = {
            "english": tts.ChatterboxTTS,
            "turbo": tts_turbo.ChatterboxTurboTTS,
            "multilingual": mtl_tts.ChatterboxMultilingualTTS,
        }
        table = str(checkpoints / FOLDERS["multilingual"] / "Cangjie5_TC.json")
        with patch("chatterbox.models.tokenizers.tokenizer.hf_hub_download", lambda **_: table):
            return models[name].from_local(checkpoints / FOLDERS[name], "cpu")

    return load
