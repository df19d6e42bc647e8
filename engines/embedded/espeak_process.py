"""One utterance by eSpeak NG: a program of its own, standard library only. `engines.embedded.espeak` starts it.

It is a process for each utterance for four reasons. The library keeps its state in C globals (flutter phase,
resonators, the noise's seed), so only a fresh process says the same text with the same bytes twice. It is not
thread-safe: two threads crash it. It is GPL-3.0-or-later, so it stays out of the server's address space and is
spoken to over a pipe. And a process can be killed at once, which is how an utterance is cancelled.

Run as `python -I -S espeak_process.py LIBRARY DATA VOICE SEED RATE PITCH RANGE`, the text as UTF-8 on stdin up to its
end. Only numbers and names are arguments, because other users of the machine can read those.

stdout carries frames: one byte for the kind, a little-endian u32 for the number of bytes that follow, and these.
`H` comes first and holds the sample rate (u32, Hz), `A` holds samples (s16 mono), `E` is empty and comes last: an
utterance without it broke off. The exit status is 0 when all was said or nobody listened any more, else 1 with one
sentence on stderr.
"""

import _signal  # type: ignore[import-not-found]  # `signal` brings `enum` along: 6 ms an utterance
import ctypes
import os
import struct
import sys
from collections.abc import Callable, Sequence

# Names and values from espeak-ng's speak_lib.h and espeak_ng.h, version 1.52.0.
OUTPUT_SYNCHRONOUS = 2
INITIALIZE_DONT_EXIT = 0x8000
PARAMETER_RATE, PARAMETER_PITCH, PARAMETER_RANGE = 1, 3, 4
POSITION_CHARACTER = 1
CHARS_UTF8 = 1
END_PAUSE = 0x1000

BUFFER_MS = 100
SYNTH_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


def claim_stdout() -> int:
    """Return a descriptor for the frames alone: what the C library prints goes to stderr from now on."""
    frames = os.dup(1)
    os.dup2(2, 1)
    return frames


def write_frame(descriptor: int, kind: bytes, payload: bytes) -> None:
    """Write one frame whole. Raises OSError when nobody reads any more."""
    unsent = memoryview(kind + struct.pack("<I", len(payload)) + payload)
    while unsent:
        unsent = unsent[os.write(descriptor, unsent) :]


def open_library(library_path: str, data_path: str, seed: int) -> tuple[ctypes.CDLL, int]:
    """Return the library, ready to speak, and its sample rate in Hz. Raises OSError if a part is missing."""
    library = ctypes.CDLL(library_path)
    # The library copies the data path into 160 bytes, too few for a deep virtual environment; "." always fits.
    os.chdir(data_path)
    sample_rate = library.espeak_Initialize(OUTPUT_SYNCHRONOUS, BUFFER_MS, b".", INITIALIZE_DONT_EXIT)
    if sample_rate <= 0:
        raise OSError("eSpeak NG does not find its data")
    # Before 1.52 there is no such function, and breathy voices draw their noise from the clock.
    if hasattr(library, "espeak_ng_SetRandSeed"):
        library.espeak_ng_SetRandSeed(ctypes.c_long(seed))
    return library, sample_rate


def speak(library: ctypes.CDLL, text: bytes, on_samples: Callable[[bytes], None]) -> None:
    """Say the text, handing over samples as they are made. Raises OSError if the library fails or `on_samples` does."""
    unheard: list[OSError] = []

    def collect(samples: int | None, count: int, _events: int | None) -> int:
        if samples and count > 0:
            try:
                on_samples(ctypes.string_at(samples, 2 * count))
            except OSError as error:
                unheard.append(error)
                return 1  # stops the synthesis: an exception cannot cross the library's frames
        return 0

    callback = SYNTH_CALLBACK(collect)
    library.espeak_SetSynthCallback(callback)
    failed = library.espeak_Synth(
        text, ctypes.c_size_t(len(text)), 0, POSITION_CHARACTER, 0, CHARS_UTF8 | END_PAUSE, None, None
    )
    if unheard:
        raise unheard[0]
    if failed:
        raise OSError(f"eSpeak NG stopped with status {failed}")


def main(arguments: Sequence[str]) -> int:
    # A stop signal to all processes of a service (systemd, `timeout`) is the server's to act on: it lets the utterance
    # in progress end, or ends this process by SIGKILL or by leaving the pipe.
    _signal.signal(_signal.SIGTERM, _signal.SIG_IGN)
    _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
    library_path, data_path, voice, *numbers = arguments
    seed, rate, pitch, pitch_range = (int(number) for number in numbers)
    text = sys.stdin.buffer.read().replace(b"\0", b" ") + b"\0"
    descriptor = claim_stdout()
    try:
        library, sample_rate = open_library(library_path, data_path, seed)
        if library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise OSError(f"eSpeak NG has no voice {voice}")
        for parameter, value in ((PARAMETER_RATE, rate), (PARAMETER_PITCH, pitch), (PARAMETER_RANGE, pitch_range)):
            library.espeak_SetParameter(parameter, value, 0)
        write_frame(descriptor, b"H", struct.pack("<I", sample_rate))
        speak(library, text, lambda samples: write_frame(descriptor, b"A", samples))
        write_frame(descriptor, b"E", b"")
    except (BrokenPipeError, ConnectionError):
        return 0
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
