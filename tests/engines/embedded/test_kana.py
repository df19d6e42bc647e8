from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from engines.embedded import kana as module
from engines.embedded.kana import KanaReader
from resilience.errors import UnreadableText


@pytest.fixture(scope="module")
def reader():
    return KanaReader()


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("今日は良い天気です。", "キョーワ ヨイ テンキデス。"),
        ("私は昨日、新しい自転車を買った。", "ワタシワ キノー、 アタラシイ ジテンシャヲ カッタ。"),
        ("人々は橋の上で花火を見た。", "ヒトビトワ ハシノウエデ ハナビヲ ミタ。"),
        ("2025年4月1日に会議が行われた。", "2025ネン 4ガツ 1ニチニ カイギガ オコナワレタ。"),
        ("２０２５年", "2025ネン"),
        ("一人と十一人", "ヒトリト ジュー イチニン"),
        ("東京 Tower", "トーキョー Tower"),
    ],
)
def test_kanji_are_read_as_they_are_spoken(reader, written, spoken):
    assert reader.kana_of(written) == spoken


def test_text_without_kanji_is_left_alone_and_loads_no_dictionary():
    code = (
        "import sys; from engines.embedded.kana import KanaReader; reader = KanaReader();"
        "assert reader.kana_of('こんにちは、ｔｅｓｔ 12') == 'こんにちは、ｔｅｓｔ 12';"
        "assert 'lindera' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_kanji_without_a_known_reading_is_refused_by_name(reader):
    with pytest.raises(UnreadableText, match="𠮷"):
        reader.kana_of("𠮷を食べた")


def test_threads_that_meet_the_first_kanji_together_load_one_dictionary(monkeypatch):
    loaded = []
    load = module._load_tokenizer

    def load_and_note():
        loaded.append(load())
        return loaded[-1]

    monkeypatch.setattr(module, "_load_tokenizer", load_and_note)
    reader = KanaReader()

    with ThreadPoolExecutor(8) as threads:
        spoken = set(threads.map(reader.kana_of, ["今日は良い天気です。"] * 16))

    assert spoken == {"キョーワ ヨイ テンキデス。"}
    assert len(loaded) == 1


def test_japanese_with_kanji_takes_as_long_as_its_kana(speak):
    by_kanji = speak("今日は良い天気です。", language="ja")
    by_kana = speak("きょうわよいてんきです。", language="ja")

    assert by_kanji.duration_s < 1.5 * by_kana.duration_s
