"""Where weights are, and fetching them from a hub that behaves, or does not. No torch, no network."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from engines.chatterbox.files import weights
from engines.chatterbox.files.weights import Located, Missing, Source
from engines.chatterbox.options import ChatterboxOptions
from engines.chatterbox.variants import ENGLISH, MULTILINGUAL, NANO, TURBO, VARIANTS, Variant
from tests.engines.chatterbox.loopback_hub import COMMIT, LoopbackHub, running

pytest.importorskip("huggingface_hub")

PROJECT = Path(__file__).resolve().parents[3]


def safetensors(tensor_bytes: int = 1000, seed: int = 0) -> bytes:
    header = json.dumps({"weight": {"dtype": "U8", "shape": [tensor_bytes], "data_offsets": [0, tensor_bytes]}})
    tensor = random.Random(seed).randbytes(tensor_bytes)
    return len(header).to_bytes(8, "little") + header.encode() + tensor


def content(name: str, tensor_bytes: int = 1024) -> bytes:
    match Path(name).suffix:
        case ".safetensors":
            return safetensors(tensor_bytes, seed=len(name))
        case ".json":
            return b'{"a": 1}'
        case ".pt":
            return b"\x80\x02}q\x00."
    return b"a b\n"


def published(variant: Variant) -> tuple[str, ...]:
    needed = (name for part in variant.needed_files for name in part[0])
    return (*needed, *variant.optional_files, variant.own_voice_file)


def write(folder: Path, names: tuple[str, ...]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(content(name))
    return folder


def snapshot(cache: Path, variant: Variant, commit: str, names: tuple[str, ...], is_main: bool = False) -> Path:
    repository = cache / f"models--{variant.repository.replace('/', '--')}"
    if is_main:
        (repository / "refs").mkdir(parents=True, exist_ok=True)
        (repository / "refs" / "main").write_text(commit)
    return write(repository / "snapshots" / commit, names)


# A folder that the settings name


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=list(VARIANTS))
def test_the_files_of_every_variant_are_found_in_the_folder_that_the_settings_name(tmp_path, variant):
    write(tmp_path, published(variant))

    found = weights.locate(variant, Source(tmp_path))

    assert isinstance(found, Located)
    assert set(found.files) == set(published(variant))
    assert all(path.is_file() for path in found.files.values())


def test_each_variant_has_a_folder_in_that_folder(tmp_path):
    write(tmp_path / "my-turbo", published(TURBO))
    write(tmp_path / "b", published(NANO))

    turbo, nano = (weights.locate(variant, Source(tmp_path)) for variant in (TURBO, NANO))

    assert isinstance(turbo, Located)
    assert isinstance(nano, Located)
    assert {path.parent.name for path in turbo.files.values()} == {"my-turbo"}
    assert {path.parent.name for path in nano.files.values()} == {"b"}


def test_of_several_folders_the_one_named_like_the_variant_is_taken(tmp_path):
    write(tmp_path / "a", published(TURBO))
    write(tmp_path / "turbo", published(TURBO))

    found = weights.locate(TURBO, Source(tmp_path))

    assert isinstance(found, Located)
    assert {path.parent.name for path in found.files.values()} == {"turbo"}


def test_a_file_that_is_missing_beside_t3_is_named_and_looked_for_nowhere_else(tmp_path):
    write(tmp_path, tuple(name for name in published(ENGLISH) if name != "ve.safetensors"))

    found = weights.locate(ENGLISH, Source(tmp_path))

    assert isinstance(found, Missing)
    assert "ve.safetensors is missing" in found.why
    assert not found.can_download


def test_a_folder_without_t3_is_said_to_be_and_the_hub_may_be_asked(tmp_path):
    write(tmp_path, ("ve.safetensors",))

    found = weights.locate(TURBO, Source(tmp_path))

    assert isinstance(found, Missing)
    assert str(tmp_path) in found.why
    assert "t3_turbo_v1.safetensors" in found.why


def test_the_newer_t3_is_preferred_and_the_older_will_do(tmp_path):
    write(tmp_path, (*published(MULTILINGUAL), "t3_mtl23ls_v2.safetensors"))
    both = weights.select(MULTILINGUAL, lambda name: (tmp_path / name).is_file())
    (tmp_path / "t3_mtl23ls_v3.safetensors").unlink()
    older = weights.select(MULTILINGUAL, lambda name: (tmp_path / name).is_file())

    assert [name for name in both.names if name.startswith("t3")] == ["t3_mtl23ls_v3.safetensors"]
    assert [name for name in older.names if name.startswith("t3")] == ["t3_mtl23ls_v2.safetensors"]
    assert not older.missing


def test_the_own_voice_of_a_model_is_optional(tmp_path):
    write(tmp_path, tuple(name for name in published(TURBO) if name != "conds.pt"))

    found = weights.locate(TURBO, Source(tmp_path))

    assert isinstance(found, Located)
    assert "conds.pt" not in found.files


def test_a_gpt2_tokenizer_may_be_one_file_or_three(tmp_path):
    three = set(published(TURBO))
    one = three - {"vocab.json", "merges.txt", "added_tokens.json"} | {"tokenizer.json"}

    assert not weights.select(TURBO, three.__contains__).missing
    assert not weights.select(TURBO, one.__contains__).missing
    assert weights.select(TURBO, (three - {"added_tokens.json"}).__contains__).missing in (
        ("added_tokens.json",),
        ("tokenizer.json",),
    )


# Damage


@pytest.mark.parametrize(
    ("name", "damaged"),
    [
        ("t3_cfg.safetensors", safetensors()[:500]),
        ("s3gen.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 2129653744\n"),
        ("ve.safetensors", b""),
        ("ve.safetensors", b"\x02\0\0\0\0\0\0\0[]"),
        ("tokenizer.json", b"<html>Sign in</html>"),
        ("conds.pt", b"PK\x03\x04 and no end"),
    ],
)
def test_a_damaged_file_is_named_before_anything_is_loaded(tmp_path, name, damaged):
    write(tmp_path, published(ENGLISH))
    (tmp_path / name).write_bytes(damaged)

    found = weights.locate(ENGLISH, Source(tmp_path))

    assert isinstance(found, Missing)
    assert f"{name} is damaged" in found.why


def test_what_torch_saves_today_is_taken_for_whole(tmp_path):
    write(tmp_path, published(ENGLISH))
    with zipfile.ZipFile(tmp_path / "conds.pt", "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}q\x00.")

    assert isinstance(weights.locate(ENGLISH, Source(tmp_path)), Located)


def test_the_revision_of_a_folder_changes_with_its_files(tmp_path):
    write(tmp_path, published(ENGLISH))
    before, again = (weights.locate(ENGLISH, Source(tmp_path)) for _ in range(2))
    (tmp_path / "t3_cfg.safetensors").write_bytes(content("t3_cfg.safetensors", 2048))
    after = weights.locate(ENGLISH, Source(tmp_path))

    assert isinstance(before, Located)
    assert isinstance(after, Located)
    assert before == again
    assert before.revision != after.revision


# The hub's cache


def test_a_snapshot_of_the_cache_is_found_and_its_commit_is_the_revision(tmp_path):
    snapshot(tmp_path, ENGLISH, "1" * 40, published(ENGLISH), is_main=True)

    found = weights.in_cache(ENGLISH, tmp_path)

    assert isinstance(found, Located)
    assert found.revision == "1" * 40


def test_files_of_two_snapshots_are_not_mixed(tmp_path):
    names = published(ENGLISH)
    snapshot(tmp_path, ENGLISH, "1" * 40, names[:2])
    snapshot(tmp_path, ENGLISH, "2" * 40, names[2:], is_main=True)

    found = weights.in_cache(ENGLISH, tmp_path)

    assert isinstance(found, Missing)
    assert found.can_download


def test_an_older_snapshot_serves_where_the_current_one_is_not_whole(tmp_path):
    snapshot(tmp_path, ENGLISH, "1" * 40, published(ENGLISH))
    snapshot(tmp_path, ENGLISH, "2" * 40, ("conds.pt",), is_main=True)

    found = weights.in_cache(ENGLISH, tmp_path)

    assert isinstance(found, Located)
    assert {path.parent.name for path in found.files.values()} == {"1" * 40}


# Fetching


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    files = {name: content(name, 300_000) for name in published(ENGLISH)}
    with running(LoopbackHub(files)) as hub:
        yield hub


def fetch(
    tmp_path: Path,
    endpoint: str,
    variant: Variant = ENGLISH,
    *,
    stall_s: float = 20,
    hub_timeout_s: float = 10,
    cancel_after: int = 0,
    offline: str = "",
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    arguments = [variant.name, str(stall_s), str(hub_timeout_s), str(cancel_after), offline]
    result = subprocess.run(
        [sys.executable, "-m", "tests.engines.chatterbox.fetch", *arguments],
        cwd=PROJECT,
        env={
            **{name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")},
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            **(environment or {}),
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    outcome: dict[str, Any] = json.loads(result.stdout)
    return outcome


def test_what_is_fetched_is_what_the_hub_has_and_is_found_from_then_on(tmp_path, hub):
    outcome = fetch(tmp_path, hub.endpoint)

    assert {name: Path(path).read_bytes() for name, path in outcome["files"].items()} == hub.files
    assert outcome["revision"] == outcome["located"] == COMMIT


def test_progress_never_falls_and_ends_at_the_total(tmp_path, hub):
    hub.cuts = {"t3_cfg.safetensors": [100_000, 100_000]}

    progress = fetch(tmp_path, hub.endpoint)["progress"]

    total = sum(map(len, hub.files.values()))
    done = [bytes_done for _, bytes_done, _ in progress]
    assert done == sorted(done)
    assert done[-1] == total
    assert {bytes_total for _, _, bytes_total in progress} == {total}
    assert progress[0][0] == "fetching t3_cfg.safetensors"


def test_a_connection_that_breaks_is_resumed_where_it_broke(tmp_path, hub):
    hub.cuts = {"t3_cfg.safetensors": [100_000, 100_000]}

    outcome = fetch(tmp_path, hub.endpoint)

    assert outcome["revision"] == COMMIT
    assert hub.fetched("t3_cfg.safetensors") == [None, "bytes=100000-", "bytes=200000-"]


def test_a_later_call_goes_on_where_a_silent_hub_was_given_up(tmp_path, hub):
    hub.falls_silent = {"s3gen.safetensors"}
    first = fetch(tmp_path, hub.endpoint, stall_s=0.3)
    hub.falls_silent = set()
    second = fetch(tmp_path, hub.endpoint)

    assert "fetching s3gen.safetensors stopped: nothing came from the hub for 0.3 s" in first["failure"]
    assert second["revision"] == COMMIT
    assert hub.fetched("t3_cfg.safetensors") == [None]
    half = len(hub.files["s3gen.safetensors"]) // 2
    assert hub.fetched("s3gen.safetensors")[-1] == f"bytes={half}-"


def test_a_hub_that_ignores_ranges_sends_the_file_once_more(tmp_path, hub):
    hub.cuts = {"t3_cfg.safetensors": [100_000]}
    hub.ignores_ranges = True

    outcome = fetch(tmp_path, hub.endpoint)

    assert Path(outcome["files"]["t3_cfg.safetensors"]).read_bytes() == hub.files["t3_cfg.safetensors"]


def test_a_file_that_the_hub_does_not_have_is_named(tmp_path, hub):
    del hub.files["ve.safetensors"]

    failure = fetch(tmp_path, hub.endpoint)["failure"]

    assert failure == "the hub has no ve.safetensors in ResembleAI/chatterbox"
    assert not hub.fetched("t3_cfg.safetensors")


def test_the_older_t3_is_fetched_where_the_hub_has_no_newer(tmp_path):
    names = {"t3_mtl23ls_v2.safetensors", *published(MULTILINGUAL)} - {"t3_mtl23ls_v3.safetensors"}
    with running(LoopbackHub({name: content(name) for name in names})) as hub:
        outcome = fetch(tmp_path, hub.endpoint, MULTILINGUAL)

    assert set(outcome["files"]) == names


def test_a_gated_repository_and_a_refusal_are_told_as_what_they_are(tmp_path, hub):
    hub.is_gated = True
    gated = fetch(tmp_path, hub.endpoint)["failure"]
    hub.is_gated, hub.refuses_with = False, 403
    refused = fetch(tmp_path, hub.endpoint)["failure"]

    assert "ResembleAI/chatterbox is gated" in gated
    assert "HF_TOKEN" in gated
    assert "403" in refused


def test_a_hub_that_is_busy_for_too_long_is_given_up(tmp_path, hub):
    hub.refuses_with = 503

    failure = fetch(tmp_path, hub.endpoint, stall_s=0.2)["failure"]

    assert "asking for t3_cfg.safetensors stopped" in failure


def test_a_file_that_arrives_damaged_is_not_kept(tmp_path, hub):
    hub.damages = {"t3_cfg.safetensors"}
    damaged = fetch(tmp_path, hub.endpoint)
    hub.damages = set()
    whole = fetch(tmp_path, hub.endpoint)

    assert "t3_cfg.safetensors was damaged on its way" in damaged["failure"]
    assert damaged["located"] is None
    assert whole["revision"] == COMMIT


def test_a_damaged_file_in_the_cache_is_fetched_anew(tmp_path, hub):
    path = Path(fetch(tmp_path, hub.endpoint)["files"]["ve.safetensors"])
    whole = path.read_bytes()
    path.resolve().write_bytes(whole[:-1])

    outcome = fetch(tmp_path, hub.endpoint)

    assert path.read_bytes() == whole
    assert outcome["located"] == COMMIT
    assert len(hub.fetched("ve.safetensors")) == 2
    assert len(hub.fetched("t3_cfg.safetensors")) == 1


def test_a_cancelled_download_stops(tmp_path, hub):
    outcome = fetch(tmp_path, hub.endpoint, cancel_after=8)

    assert outcome["failure"] == "cancelled"
    assert outcome["located"] is None


def test_a_hub_that_does_not_answer_is_found_out_in_time(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        begun = time.monotonic()
        outcome = fetch(tmp_path, f"http://127.0.0.1:{deaf.getsockname()[1]}", hub_timeout_s=0.5)

    assert "the Hugging Face hub did not answer within 0.5 s" in outcome["failure"]
    assert time.monotonic() - begun < 20  # most of it is Python's start


@pytest.mark.parametrize("how", ["settings", "environment"])
def test_offline_the_hub_is_never_asked(tmp_path, hub, how):
    outcome = fetch(
        tmp_path,
        hub.endpoint,
        offline="offline" if how == "settings" else "",
        environment={"HF_HUB_OFFLINE": "1"} if how == "environment" else None,
    )

    assert "forbidden" in outcome["failure"]
    assert not hub.requests


# The sentence for people


@pytest.mark.skipif(find_spec("chatterbox") is None, reason="needs the package chatterbox-tts")
def test_weights_in_the_folder_are_enough_for_chatterbox_to_be_chosen(tmp_path):
    write(tmp_path / "nano", published(NANO))

    assert weights.why_unavailable(ChatterboxOptions(weights=str(tmp_path), offline=True)) is None
    assert weights.why_unavailable(ChatterboxOptions(weights=str(tmp_path), offline=True, model="nano")) is None


@pytest.mark.skipif(find_spec("chatterbox") is None, reason="needs the package chatterbox-tts")
def test_without_weights_and_network_the_reason_is_said(tmp_path):

    why = weights.why_unavailable(ChatterboxOptions(weights=str(tmp_path), offline=True, model="turbo"))

    assert why is not None
    assert "t3_turbo_v1.safetensors" in why
    assert "the settings forbid fetching it" in why
