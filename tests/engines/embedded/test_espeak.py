from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import espeakng_loader
import numpy as np
import pytest

from engines.base import Cancellation, Cancelled
from engines.embedded import espeak
from engines.embedded.voices import Performance
from resilience.errors import GenerationFailed

LIBRARY, DATA = Path(espeakng_loader.get_library_path()), Path(espeakng_loader.get_data_path())
PLAIN = Performance("edward", pitch=50, pitch_range=50, words_per_minute=175, seed=1)
CHATTERBOX_CODES = "ar da de el en es fi fr he hi it ja ko ms nl no pl pt ru sv sw tr zh".split()


def utterance(text, voice="en-us", cancellation=None, data=DATA):
    return espeak.stream_utterance(text, voice, PLAIN, LIBRARY, data, cancellation or Cancellation())


def program(text: bytes, voice="en-us+edward", data=DATA):
    command = [sys.executable, "-I", "-S", espeak.PROGRAM, LIBRARY, data, voice, "1", "175", "50", "50"]
    return subprocess.run(list(map(str, command)), input=text, capture_output=True, timeout=20)


def test_an_utterance_arrives_piece_by_piece():
    pieces = list(utterance("Good morning, how are you today?"))

    assert len(pieces) > 5
    assert 1.0 < sum(map(len, pieces)) / espeak.SAMPLE_RATE < 4.0
    assert 0.1 < max(float(np.max(np.abs(piece))) for piece in pieces) <= 1.0


def test_closing_the_stream_ends_the_process(monkeypatch):
    started = []

    class Watched(subprocess.Popen[bytes]):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Watched)

    stream = utterance("A long story. " * 2000)
    next(stream)
    stream.close()

    assert started[0].returncode is not None


def test_cancelling_leaves_a_silent_synthesizer_within_a_tenth_of_a_second(tmp_path, monkeypatch):
    mute = tmp_path / "mute.py"
    mute.write_text(
        "import signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "time.sleep(60)\n"
    )
    monkeypatch.setattr(espeak, "PROGRAM", mute)
    cancellation = Cancellation()
    cancelled_at = []

    def cancel():
        cancelled_at.append(time.monotonic())
        cancellation.cancel()

    threading.Timer(0.15, cancel).start()
    with pytest.raises(Cancelled):
        next(utterance("Hello.", cancellation=cancellation))

    assert time.monotonic() - cancelled_at[0] < 0.1


def test_a_synthesizer_that_breaks_off_fails_the_utterance(tmp_path, monkeypatch):
    broken = tmp_path / "broken.py"
    broken.write_text("import os\nos.write(1, b'A' + bytes([4, 0, 0, 0]) + bytes(4))\nos._exit(3)\n")
    monkeypatch.setattr(espeak, "PROGRAM", broken)

    with pytest.raises(GenerationFailed, match="broke off"):
        list(utterance("Hello."))


def test_missing_data_fails_with_a_sentence_that_names_no_path(tmp_path, caplog):
    with pytest.raises(GenerationFailed) as failure:
        list(utterance("Hello.", data=tmp_path / "nothing"))

    assert str(tmp_path) not in failure.value.message
    assert str(tmp_path) in caplog.text


def test_a_voice_that_the_library_lacks_fails_the_utterance():
    with pytest.raises(GenerationFailed, match="broke off"):
        list(utterance("Hello.", voice="tlh-nowhere"))


def test_the_data_may_lie_deeper_than_the_library_can_remember(tmp_path):
    deep = tmp_path / ("a" * 90) / ("b" * 90)
    deep.mkdir(parents=True)
    (deep / "data").symlink_to(DATA)

    assert sum(map(len, utterance("Hello.", data=deep / "data"))) > 0


def test_the_program_is_silent_on_stderr_and_ends_when_nobody_reads():
    assert program(b"Hello.").stderr == b""

    command = [sys.executable, "-I", "-S", espeak.PROGRAM, LIBRARY, DATA, "en-us+edward", "1", "175", "50", "50"]
    with subprocess.Popen(
        list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdin.write(b"A long story. " * 20_000)
        process.stdin.close()
        process.stdout.read(1000)
        process.stdout.close()

        assert process.wait(5) == 0
        assert process.stderr.read() == b""


@pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")
def test_a_stop_signal_lets_the_utterance_in_progress_finish():
    whole = program(b"A long story. " * 50).stdout

    command = [sys.executable, "-I", "-S", espeak.PROGRAM, LIBRARY, DATA, "en-us+edward", "1", "175", "50", "50"]
    with subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(b"A long story. " * 50)
        process.stdin.close()
        begun = process.stdout.read(1000)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)

        assert begun + process.stdout.read() == whole
        assert process.wait(5) == 0


def test_every_language_of_chatterbox_can_be_spoken():
    known = espeak.languages(DATA)

    assert known.keys() >= set(CHATTERBOX_CODES)
    assert len(known) > 120


@pytest.mark.parametrize(
    ("language", "voice"),
    [
        ("en", "en-us"),
        ("en-gb", "en"),
        ("pt", "pt-br"),
        ("pt-pt", "pt"),
        ("no", "nb"),
        ("zh", "cmn"),
        ("zh-hk", "yue"),
        ("es-mx", "es-419"),
    ],
)
def test_a_code_finds_its_voice(language, voice):
    assert espeak.languages(DATA)[language] == voice


@pytest.mark.parametrize("voice", ["ja", "cmn", "ar", "he", "ko", "hi", "en", "ltg", "yue", "chr"])
def test_voices_found_in_the_files_are_known_to_the_library(voice):
    assert sum(map(len, utterance("2025", voice=voice))) > 0.3 * espeak.SAMPLE_RATE
