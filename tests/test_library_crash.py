"""The library of voices when the server is killed in the middle of its work, again and again."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
import soundfile

from tests.serving import PROJECT, free_port

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kills processes by POSIX signals")

KILLS = 4
CLIENTS = 4
NAMES = 12  # few, so that uploads replace files and moves meet
FEWEST_BETWEEN_KILLS = 50  # uploads and changes that were answered
SEED = 2026
SURE = {"confirm": "true"}
FOLDERS = (None, "a", "a/b", "früh")


@dataclass
class Sent:
    """What the clients know: what may be on the disk, and what the server said is."""

    hashes: set[str] = field(default_factory=set)  # of every recording that was ever sent
    descriptions: set[str] = field(default_factory=set)
    kept: dict[str, str] = field(default_factory=dict)  # name → hash of the upload that was answered last
    described: dict[str, str] = field(default_factory=dict)
    in_doubt: set[str] = field(default_factory=set)  # names of which the last request got no answer
    may_be_gone: set[str] = field(default_factory=set)  # those of them that were to be deleted
    count: int = 0


def test_killed_in_the_middle_of_uploads_and_changes_the_library_is_whole(tmp_path: Path) -> None:
    random_moment = random.Random(SEED)
    sent = Sent()

    for _ in range(KILLS):
        until = sent.count + random_moment.randint(FEWEST_BETWEEN_KILLS, FEWEST_BETWEEN_KILLS * 3 // 2)
        with running(tmp_path) as (server, url):
            look_at(tmp_path / "voices", url, sent)
            work(url, server, sent, until, random_moment)
    with running(tmp_path) as (_, url):
        look_at(tmp_path / "voices", url, sent)

    assert sent.count >= KILLS * FEWEST_BETWEEN_KILLS


@contextmanager
def running(data_dir: Path) -> Iterator[tuple[psutil.Process, str]]:
    """A server that answers; killed at the end, if it still lives, as hard as it can be."""
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "main_api.py", "--engine", "embedded", "--port", str(port), "--data-dir", str(data_dir)],
        cwd=PROJECT,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(base_url=url, trust_env=False) as client:
            while not _is_live(client):
                assert server.poll() is None
                threading.Event().wait(0.02)
        yield psutil.Process(server.pid), url
    finally:
        engines = psutil.Process(server.pid).children() if server.poll() is None else []
        server.kill()
        server.wait()
        psutil.wait_procs(engines, timeout=30)


def _is_live(client: httpx.Client) -> bool:
    try:
        return client.get("/api/v1/health/live").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def work(url: str, server: psutil.Process, sent: Sent, until: int, random_moment: random.Random) -> None:
    """Upload and change voices from several clients; kill the server as soon as `until` of them were answered.

    Each client has names of its own, so that it knows what became of them.
    """
    sent.in_doubt.clear()
    sent.may_be_gone.clear()
    lock = threading.Lock()
    seeds = [random_moment.random() for _ in range(CLIENTS)]

    def client(number: int) -> None:
        lots = random.Random(seeds[number])
        with httpx.Client(base_url=url, timeout=30, trust_env=False) as session:
            while True:
                name = f"voice {lots.randrange(NAMES // CLIENTS) * CLIENTS + number}.wav"
                try:
                    one_request(session, name, lots, sent, lock)
                except httpx.TransportError:
                    sent.in_doubt.add(name)
                    return
                with lock:
                    sent.count += 1
                    if sent.count == until:
                        server.kill()

    with ThreadPoolExecutor(CLIENTS) as threads:
        for done in [threads.submit(client, number) for number in range(CLIENTS)]:
            done.result()


def one_request(session: httpx.Client, name: str, lots: random.Random, sent: Sent, lock: threading.Lock) -> None:
    chance = lots.random()
    place = where(session, name)
    if name not in sent.kept or chance < 0.5:
        recording = noise(lots)
        digest = hashlib.sha256(recording).hexdigest()
        with lock:
            sent.hashes.add(digest)
            sent.descriptions.add(digest)
        form = {"overwrite": "true", "description": digest} | ({"folder_path": place} if place else {})
        reply = session.post("/api/v1/voice", files={"voice_file": (name, recording)}, data=form)
        assert reply.status_code == httpx.codes.OK, reply.text
        sent.kept[name] = sent.described[name] = digest
    elif chance < 0.9:
        description = f"take {lots.random()}"
        with lock:
            sent.descriptions.add(description)
        changes = {"description": description} | ({"folder_path": lots.choice(FOLDERS)} if lots.random() < 0.6 else {})
        reply = session.put(f"/api/v1/voice/{name}/metadata", json=changes)
        assert reply.status_code == httpx.codes.OK, reply.text
        sent.described[name] = description
    else:
        sent.may_be_gone.add(name)
        reply = session.delete(f"/api/v1/voice/{place}/{name}" if place else f"/api/v1/voice/{name}", params=SURE)
        assert reply.status_code == httpx.codes.OK, reply.text
        sent.may_be_gone.remove(name)
        del sent.kept[name]


def where(session: httpx.Client, name: str) -> str | None:
    """The folder that the voice lies in, so that an upload replaces it."""
    files = session.get("/api/v1/voices", params={"search": name, "page_size": 100}).json()["voices"]
    return next((file["folder_path"] for file in files if file["filename"] == name), None)


def noise(lots: random.Random) -> bytes:
    samples = np.random.default_rng(lots.randrange(2**32)).uniform(-0.5, 0.5, lots.randint(2000, 40_000))
    file = io.BytesIO()
    soundfile.write(file, samples, 8000, format="WAV")
    return file.getvalue()


def look_at(root: Path, url: str, sent: Sent) -> None:
    """The disk after a kill and a start, and what the server says of it once it has read it."""
    with httpx.Client(base_url=url, timeout=30, trust_env=False) as session:
        listed, there = settled(session, root)
    assert listed == there
    names = [path.name for path in root.rglob("*") if path.is_file()]
    recordings = [name for name in names if name.endswith(".wav")]
    assert sorted(names) == sorted([*recordings, *(f"{name}.json" for name in recordings)]), "something was left behind"
    assert len(recordings) == len(set(recordings)), "a file is there twice"
    assert set(recordings) - set(sent.kept) <= sent.in_doubt, "a deleted file is back"
    assert set(sent.kept) - set(recordings) <= sent.may_be_gone, "a file is lost"
    for path in root.rglob("*.wav"):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        companion = companion_of(path)
        assert digest in sent.hashes
        assert companion["audio"]["content_hash"] == digest
        assert companion["description"] in sent.descriptions
        if path.name not in sent.in_doubt:
            assert digest == sent.kept[path.name]
            assert companion["description"] == sent.described[path.name]
        sent.described[path.name] = companion["description"]
    sent.kept = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*.wav")}


def companion_of(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.with_name(f"{path.name}.json").read_text(encoding="utf-8"))
    return content


def settled(session: httpx.Client, root: Path) -> tuple[set[tuple[str, str, int]], set[tuple[str, str, int]]]:
    """Path, description and size of what is listed and of what is on the disk, as soon as they are the same.

    The server answers before it has looked at all of its folders again.
    """
    for _ in range(400):
        voices = session.get("/api/v1/voices", params={"page_size": 100}).json()["voices"]
        listed = {(voice["url"], voice["description"], voice["file_size_bytes"]) for voice in voices}
        is_clean = not any(path.name.startswith(".") for path in root.rglob("*"))
        there = {
            (path.relative_to(root).as_posix(), companion_of(path)["description"], path.stat().st_size)
            for path in (root.rglob("*.wav") if is_clean else ())
        }
        if is_clean and listed == there:
            break
        threading.Event().wait(0.05)
    return listed, there
