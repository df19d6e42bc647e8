"""`/v1/audio/speech/stream`: a text as it is written in, its audio as it is spoken out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.listen import Recogniser, clicks, silences, word_error_rate
from tests.routes.openai.asking import say
from tests.routes.openai.dictating import START, connected, dictating
from tests.serving import Server, serving
from tests.utils.audio.played import played

SENTENCES = [
    "Our train leaves from platform seven at half past nine.",
    "Please close the window before you turn off the lights.",
    "The doctor asked her to come back on Thursday morning.",
]
TEXT = " ".join(SENTENCES)
LONG_TEXT = "and then we walked on through the long grass. " * 80
FADE = round(0.02 * 24_000)


# What is heard


def test_a_text_in_pieces_sounds_like_the_text_in_one_request(server: Server, client: httpx.Client) -> None:
    whole = played(say(client, TEXT, response_format="pcm", seed=7).content, "pcm").samples
    with dictating(server) as dictation:
        dictation.write(TEXT)
        dictation.tell("end")
        code = dictation.hear_out()

    heard = played(dictation.audio, "pcm").samples
    assert code == 1000
    assert dictation.kinds == ["started", *["sentence"] * 3, "flushed", "done"]
    assert dictation.sentences == SENTENCES
    assert len(heard) == len(whole)
    np.testing.assert_array_equal(heard[:-FADE], whole[:-FADE])


@pytest.mark.parametrize("format_name", ["mp3", "opus", "aac", "flac", "wav"])
def test_all_of_the_audio_is_one_file_of_the_format(server: Server, format_name: str) -> None:
    with dictating(server, response_format=format_name) as dictation:
        dictation.write(SENTENCES[0])
        dictation.tell("flush")
        dictation.hear_until("flushed")
        dictation.write(SENTENCES[1])
        dictation.tell("end")
        dictation.hear_out()

    done = dictation.events[-1]
    assert played(dictation.audio, format_name).duration_s == pytest.approx(done["duration_seconds"], abs=0.15)
    assert done["usage"]["total_tokens"] == done["usage"]["input_tokens"] + done["usage"]["output_tokens"] > 0


def test_the_words_are_heard_in_their_order(server: Server) -> None:
    with dictating(server) as dictation:
        dictation.write(TEXT, letters=3)
        dictation.tell("end")
        dictation.hear_out()

    assert word_error_rate(TEXT, Recogniser.of(SENTENCES).hear(played(dictation.audio, "pcm"))) <= 0.1


def test_the_first_sentence_is_spoken_while_the_second_is_written(server: Server) -> None:
    with dictating(server) as dictation:
        dictation.write(SENTENCES[0] + " Please close ")
        dictation.hear_until("sentence")
        while dictation.hear() is not None:
            pass

        assert dictation.sentences == [SENTENCES[0]]
        assert dictation.audio


def test_between_utterances_lies_a_pause_and_no_click(server: Server) -> None:
    with dictating(server) as dictation:
        for sentence in SENTENCES:
            dictation.write(sentence)
            dictation.tell("flush")
        dictation.tell("end")
        dictation.hear_out()

    heard = played(dictation.audio, "pcm")
    assert len([pause for pause in silences(heard) if 0.2 < pause[1] - pause[0] < 1]) >= 2
    assert clicks(heard) == []


def test_audio_comes_as_text_if_it_is_asked_for(server: Server) -> None:
    with dictating(server, audio="base64") as dictation:
        dictation.write("Hello.")
        dictation.tell("end")
        dictation.hear_out()

    assert "audio" in dictation.kinds
    assert played(dictation.audio, "pcm").duration_s > 0.3


def test_speed_counts_here_too(server: Server) -> None:
    lengths = []
    for speed in (1.0, 2.0):
        with dictating(server, speed=speed) as dictation:
            dictation.write(TEXT)
            dictation.tell("end")
            dictation.hear_out()
        lengths.append(len(dictation.audio))

    assert lengths[1] == pytest.approx(lengths[0] / 2, rel=0.05)


@pytest.mark.parametrize("text", ["", " \n ", "um"], ids=["empty", "blank", "nothing after clean-up"])
def test_a_text_with_nothing_to_say_is_silence(server: Server, text: str) -> None:
    with dictating(server, sound_words_field="um") as dictation:
        dictation.tell("text", text=text)
        dictation.tell("flush")
        dictation.hear_until("flushed")
        dictation.write("Hello.")
        dictation.tell("end")
        code = dictation.hear_out()

    assert code == 1000
    assert dictation.sentences == ["Hello."]


def test_a_character_may_be_cut_in_two_by_who_writes_in_utf_16(server: Server) -> None:
    with dictating(server) as dictation:
        for half in ("Hello \ud83d", "\ude00 there.", "\ud83d", "", "\ude00"):  # as JavaScript cuts an emoji
            dictation.tell("text", text=half)
        dictation.tell("end")
        code = dictation.hear_out()

    assert code == 1000
    assert "".join(dictation.sentences).replace(" ", "") == "Hello\U0001f600there.\U0001f600"


@pytest.mark.parametrize(
    "texts", [["a\ud83d", "b"], ["\ude00"], ["a\ud83d"], ["a\ud83d", "\ud83d"], ["a\ud83db"]], ids=ascii
)
def test_half_a_character_that_stays_alone_is_refused(server: Server, texts: list[str]) -> None:
    with dictating(server) as dictation:
        with suppress(ConnectionClosed):  # by a refusal of the first of them
            for text in texts:
                dictation.tell("text", text=text)
            dictation.tell("end")
        closed_with = dictation.hear_out()

    assert closed_with == 1008
    assert dictation.events[-1]["error"]["param"] == "text"
    assert "half of a character" in dictation.events[-1]["error"]["message"]


# Being silent


def test_what_is_cancelled_is_not_heard_and_what_comes_after_is(lone: Server) -> None:
    with dictating(lone) as dictation:
        dictation.write(LONG_TEXT[:4000], letters=2000)
        dictation.hear_until("sentence")
        dictation.tell("cancel")
        dictation.hear_until("cancelled")
        before = len(dictation.audio)
        dictation.write(SENTENCES[0])
        dictation.tell("end")
        dictation.hear_out()

    after = played(dictation.audio[before:], "pcm")
    assert dictation.sentences_after("cancelled") == SENTENCES[:1]
    assert after.duration_s < 6
    assert clicks(played(dictation.audio, "pcm")) == []


@pytest.mark.parametrize("half", ["This was a mis", "Hello \ud83d"], ids=["of a sentence", "of a character"])
def test_a_cancelled_half_never_comes_back(server: Server, half: str) -> None:
    with dictating(server) as dictation:
        dictation.tell("text", text=half)
        dictation.tell("cancel")
        dictation.hear_until("cancelled")
        dictation.tell("text", text="Hello.")
        dictation.tell("end")
        dictation.hear_out()

    assert dictation.sentences == ["Hello."]


def test_a_client_that_leaves_frees_its_place_and_the_engine(lone: Server) -> None:
    for _ in range(5):
        with dictating(lone) as dictation:
            dictation.write(LONG_TEXT[:4000], letters=2000)
            dictation.hear_until("sentence")
        line = lone.wait_for_log("route=/v1/audio/speech/stream")

    _, alive = psutil.wait_procs(lone.engine_process().children(), timeout=5)
    with lone.client() as client:
        metrics = client.get("/api/v1/health").json()["metrics"]
    assert not alive
    assert metrics["requests_in_line"] == 0
    assert "method=WEBSOCKET" in line
    assert "status=101" in line


def test_the_log_knows_a_dictation_by_its_id_and_nothing_that_was_written(lone: Server) -> None:
    with dictating(lone, query="?note=marmalade") as dictation:
        dictation.write("The marmalade is gone.")
        dictation.tell("end")
        dictation.hear_out()
    line = lone.wait_for_log(f"[{dictation.request_id}] request")

    assert "method=WEBSOCKET route=/v1/audio/speech/stream status=101" in line
    assert not [line for line in lone.log if "marmalade" in line]


@pytest.fixture(scope="module")
def lone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose log, line and engine nobody else has a part in."""
    with serving(tmp_path_factory.mktemp("lone"), "--engine", "embedded") as running:
        yield running


# What is refused


@pytest.mark.parametrize(
    ("start", "param", "code"),
    [
        ({"voice": "nobody"}, "voice", "voice_not_found"),
        ({"model": "gpt-9-tts"}, "model", "model_not_found"),
        ({"speed": 9}, "speed", "invalid_value"),
        ({"speed": "fast"}, "speed", "invalid_type"),
        ({"response_format": "ogg"}, "response_format", "invalid_value"),
        ({"language": "tlh"}, "language", "invalid_value"),
        ({"lang_code": "tlh"}, "lang_code", "invalid_value"),
        ({"voise": "alloy"}, "voise", "invalid_value"),
        ({"voice": None}, "voice", "missing_required_parameter"),
        ({"normalize_audio": True}, "normalize_audio", "invalid_value"),
        ({"type": "text", "text": "Hello."}, "type", "invalid_value"),
        ({"type": "begin"}, "type", "invalid_value"),
    ],
)
def test_a_wrong_start_is_told_by_its_field(server: Server, start: dict[str, Any], param: str, code: str) -> None:
    fields = {"type": "text", "text": "Hello."} if start.get("type") == "text" else {**START, **start}
    with connected(server) as dictation:
        dictation.tell(fields.pop("type"), **fields)
        closed_with = dictation.hear_out()

    (failure,) = dictation.events
    assert closed_with == 1008
    assert failure["type"] == "error"
    assert (failure["error"]["param"], failure["error"]["code"]) == (param, code)
    assert failure["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ("{", None),
        (b"audio", None),
        ('"text"', "type"),
        ("{}", "type"),
        ('{"type": "text"}', "text"),
        ('{"type": "text", "text": 5}', "text"),
        ('{"type": "text", "text": "a\\u0000b"}', "text"),
        (json.dumps({"type": "text", "text": "x" * 4097}), "text"),
        ('{"type": "flush", "now": true}', "now"),
        (json.dumps(START), "type"),
    ],
)
def test_a_wrong_message_ends_the_dictation_and_says_why(
    server: Server, message: str | bytes, param: str | None
) -> None:
    with dictating(server) as dictation:
        dictation._socket.send(message)
        closed_with = dictation.hear_out()

    assert closed_with == 1008
    assert dictation.events[-1]["error"]["param"] == param
    assert "'input'" not in dictation.events[-1]["error"]["message"]


def test_more_than_can_wait_is_refused(server: Server) -> None:
    with dictating(server) as dictation:
        for _ in range(20):
            dictation.tell("text", text="word " * 800)
        closed_with = dictation.hear_out()

    assert closed_with == 1008
    assert dictation.events[-1]["error"]["code"] == "string_too_long"


def test_a_message_that_is_far_too_long_is_not_even_read(server: Server) -> None:
    with dictating(server) as dictation:
        dictation.hear_until("started")
        with suppress(ConnectionClosed):
            dictation.tell("text", text="x" * 2_000_000)
        closed_with = dictation.hear_out()

    assert closed_with in (1009, 1006)  # 1006 where the end of the connection overtook the reason
    assert dictation.kinds == ["started"]


def test_silence_on_both_sides_ends_it(tmp_path: Path) -> None:
    impatient = {"CHATTERBOX_OPENAI__DICTATION_IDLE_S": "0.5"}
    with serving(tmp_path, "--engine", "embedded", environment=impatient) as server, dictating(server) as dictation:
        dictation.write("This is not")
        closed_with = dictation.hear_out()

    assert closed_with == 1008
    assert dictation.events[-1]["error"]["code"] == "idle_timeout"


def test_a_full_line_is_told_with_the_time_to_wait(tmp_path: Path) -> None:
    short = {"CHATTERBOX_ENGINE__MAX_WAITING": "1"}
    with serving(tmp_path, "--engine", "embedded", environment=short) as server, dictating(server) as first:
        first.hear_until("started")
        with dictating(server) as second:
            closed_with = second.hear_out()

    assert closed_with == 1013
    assert second.events[-1]["error"]["code"] == "server_is_overloaded"
    assert 1 <= second.events[-1]["retry_after"] <= 60


def test_a_page_of_another_origin_gets_no_connection(server: Server) -> None:
    with pytest.raises(InvalidStatus) as caught, dictating(server, origin="https://evil.example"):
        pass

    reply = caught.value.response
    assert reply.status_code == 403
    assert json.loads(reply.body or b"")["error"]["code"] == "permission_denied"
    assert reply.headers["x-request-id"]


def test_a_page_of_this_machine_may_dictate(server: Server) -> None:
    with dictating(server, origin="http://localhost:3000") as dictation:
        assert dictation.hear_until("started")["sample_rate"] == 24_000
