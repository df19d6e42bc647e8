"""eSpeak NG as a stream of samples: starts `espeak_process.py` for each utterance and knows which languages it has."""

from __future__ import annotations

import contextlib
import logging
import queue
import re
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO

import numpy as np
from numpy.typing import NDArray

from engines.base import Cancellation
from engines.embedded.voices import Performance
from resilience.errors import GenerationFailed

logger = logging.getLogger(__name__)

SAMPLE_RATE = 22050
PROGRAM = Path(__file__).with_name("espeak_process.py")
LOOK_INTERVAL_S = 0.02  # how often a silent process is asked after: bounds the time that a cancellation takes
SILENCE_LIMIT_S = 30.0  # eSpeak NG makes an hour of speech in less; past it, it hangs
FRAMES_AHEAD = 32  # frames of 0.1 s that wait for a slow reader; then the process waits too

LANGUAGE_LINE = re.compile(r"^language[ \t]+(\S+)(?:[ \t]+(\d+))?", re.MULTILINE)
DICTIONARY_LINE = re.compile(r"^dictionary[ \t]+(\S+)", re.MULTILINE)
DEFAULT_PRIORITY = 5

# Codes that its files lack, or where Chatterbox means another than the file with the bare code.
ALIASES = {"en": "en-us", "pt": "pt-br", "zh": "cmn", "zh-hk": "yue", "zh-mo": "yue", "no": "nb", "nn": "nb"}


def stream_utterance(
    text: str,
    voice: str,
    performance: Performance,
    library_path: Path,
    data_path: Path,
    cancellation: Cancellation,
) -> Iterator[NDArray[np.float32]]:
    """Yield the utterance as it is made: float32 in [-1, 1] at `SAMPLE_RATE`, some 0.1 s at a time.

    `voice` is a value of `languages()`. Equal arguments give equal samples. The process is gone when the generator
    is closed or done. Raises GenerationFailed if the process fails, Cancelled within `LOOK_INTERVAL_S` of the
    cancellation, however long eSpeak NG is silent.
    """
    process = _start(voice, performance, library_path, data_path)
    frames: queue.Queue[tuple[bytes, bytes]] = queue.Queue(FRAMES_AHEAD)
    # A thread and not select(): Windows cannot wait for a pipe.
    reader = threading.Thread(target=_pump, args=(process, text, frames), name="espeak-pipe", daemon=True)
    reader.start()
    try:
        while True:
            kind, payload = _next_frame(frames, cancellation)
            if kind == b"A":
                yield np.frombuffer(payload, "<i2").astype(np.float32) / np.float32(32768)
            elif kind == b"E":
                return
            elif kind == b"H":
                _check_sample_rate(payload)
            else:
                logger.warning("espeak failed voice=%s status=%s", voice, _last_words(process))
                raise GenerationFailed("the speech synthesizer broke off in the middle of the text")
    finally:
        process.kill()
        while reader.is_alive():  # it may wait for room in the queue
            with contextlib.suppress(queue.Empty):
                frames.get_nowait()
            reader.join(0.001)
        process.wait()
        for pipe in (process.stdout, process.stderr):
            _open(pipe).close()


def languages(data_path: Path) -> Mapping[str, str]:
    """Every language code that can be spoken, in lower case, with the name eSpeak NG knows its voice by.

    Read from the `language` lines of the voice files; where several files claim a code, the file of that name or
    else the best priority (the lowest number) has it. Languages whose dictionary is not installed are left out.
    """
    claims: dict[str, tuple[int, str]] = {}
    for file in sorted((data_path / "lang").rglob("*")):
        if not file.is_file():
            continue
        description = file.read_text(encoding="utf-8", errors="replace")
        lines = LANGUAGE_LINE.findall(description)
        dictionary = DICTIONARY_LINE.search(description)
        dictionary_name = dictionary.group(1) if dictionary else lines[0][0].split("-")[0] if lines else ""
        if not (data_path / f"{dictionary_name}_dict").is_file():
            continue
        voice = file.name.lower()
        for code, priority in [(voice, "0"), *lines]:
            claim = (int(priority or DEFAULT_PRIORITY), voice)
            claims[code.lower()] = min(claims.get(code.lower(), claim), claim)
    voices = {code: voice for code, (_, voice) in claims.items()}
    voices.update({code: voice for code, voice in ALIASES.items() if voice in voices})
    return MappingProxyType(voices)


def _start(voice: str, performance: Performance, library_path: Path, data_path: Path) -> subprocess.Popen[bytes]:
    numbers = (performance.seed, performance.words_per_minute, performance.pitch, performance.pitch_range)
    command = [sys.executable, "-I", "-S", str(PROGRAM), str(library_path), str(data_path)]
    command += [f"{voice}+{performance.variant}", *map(str, numbers)]
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            close_fds=True,
            # A Ctrl-C in the terminal is for the server, which may let what it began come to its end.
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except OSError as error:
        raise GenerationFailed("the speech synthesizer could not be started") from error


def _pump(process: subprocess.Popen[bytes], text: str, frames: queue.Queue[tuple[bytes, bytes]]) -> None:
    """Hand the text over and bring back frames to their end, or to an empty kind if the process breaks off."""
    with contextlib.suppress(OSError), _open(process.stdin) as stdin:
        stdin.write(text.encode("utf-8", "replace"))
    stdout = _open(process.stdout)
    kind, payload = b"", b""
    while kind != b"E":
        header = stdout.read(5)
        kind = header[:1] if len(header) == 5 else b""
        if kind:
            (size,) = struct.unpack("<I", header[1:])
            payload = stdout.read(size)
            kind = kind if len(payload) == size else b""
        frames.put((kind, payload))
        if not kind:
            return


def _next_frame(frames: queue.Queue[tuple[bytes, bytes]], cancellation: Cancellation) -> tuple[bytes, bytes]:
    deadline = time.monotonic() + SILENCE_LIMIT_S
    while time.monotonic() < deadline:
        cancellation.check()
        with contextlib.suppress(queue.Empty):
            return frames.get(timeout=LOOK_INTERVAL_S)
    raise GenerationFailed(f"the speech synthesizer made no sound for {SILENCE_LIMIT_S:.0f} seconds")


def _check_sample_rate(payload: bytes) -> None:
    (sample_rate,) = struct.unpack("<I", payload)
    if sample_rate != SAMPLE_RATE:
        raise GenerationFailed(f"the speech synthesizer speaks at {sample_rate} Hz instead of {SAMPLE_RATE}")


def _last_words(process: subprocess.Popen[bytes]) -> str:
    """What the program left on stderr, for the log alone: it may name paths. A crash leaves only its exit status."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(1)
    process.kill()
    lines = _open(process.stderr).read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else f"exit status {process.returncode}"


def _open(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None  # every pipe was asked for in `_start`
    return pipe
