"""The words arrive: what is sent as text is heard as speech, by a recogniser that has never seen the server."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from tests.listen import Recogniser, read, sentences_heard_in_order, spelled, word_error_rate
from tests.serving import Server
from utils.text.split import Grouping, split

DATA = Path(__file__).parent / "data"
SENTENCES = (DATA / "readme_sentences.txt").read_text(encoding="utf-8").split("\n")[:10]


@pytest.mark.parametrize("voice", [0, 1])
def test_the_sentences_of_the_readme_are_understood(client: httpx.Client, voice: int) -> None:
    name = client.get("/api/v1/config").json()["engine"]["voices"][voice]
    recogniser = Recogniser.of(SENTENCES)

    def heard(sentence: str) -> str:
        body = {"text": sentence, "reference_audio_filename": name, "export_formats": ["wav"], "seed": 11}
        return recogniser.hear(read(client.post("/api/v1/tts", json=body).content))

    assert word_error_rate(" ".join(SENTENCES), " ".join(map(heard, SENTENCES))) <= 0.05


def test_every_sentence_of_a_long_text_is_heard_in_order(client: httpx.Client, server: Server) -> None:
    text = (DATA / "narrative.txt").read_text(encoding="utf-8")
    whole = split(" ".join(text.split()), language="en", max_characters=2000, grouping=Grouping.EACH)
    sentences = [spelled(chunk.text) for chunk in whole]

    body = {"text": text, "response_mode": "url", "export_formats": ["flac"], "seed": 5}
    reply = client.post("/api/v1/tts", json=body).json()
    audio = client.get(reply["output_files"][0]["url"]).content
    companion = json.loads((server.data_dir / reply["output_files"][0]["path"]).with_suffix(".json").read_text("utf-8"))

    assert len(text) > 3000
    assert sentences_heard_in_order(sentences, Recogniser.of(sentences).hear(read(audio))) == []
    assert "".join(chunk["text"] for chunk in companion["chunks"]) == companion["text"]
    assert companion["text"].split() == text.replace("U.S.", "U S").split()
    assert sum(chunk["duration_s"] for chunk in companion["chunks"]) <= companion["duration_s"]
