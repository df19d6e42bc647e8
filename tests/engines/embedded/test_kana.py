from __future__ import annotations

import subprocess
import sys

import pytest

from engines.embedded.kana import kana
from resilience.errors import GenerationFailed


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
def test_kanji_are_read_as_they_are_spoken(written, spoken):
    assert kana(written) == spoken


def test_text_without_kanji_is_left_alone_and_loads_no_dictionary():
    code = (
        "import sys; from engines.embedded.kana import kana;"
        "assert kana('こんにちは、ｔｅｓｔ 12') == 'こんにちは、ｔｅｓｔ 12'; assert 'lindera' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_kanji_without_a_known_reading_is_refused_by_name():
    with pytest.raises(GenerationFailed, match="𠮷"):
        kana("𠮷を食べた")


def test_japanese_with_kanji_takes_as_long_as_its_kana(speak):
    by_kanji = speak("今日は良い天気です。", language="ja")
    by_kana = speak("きょうわよいてんきです。", language="ja")

    assert by_kanji.duration_s < 1.5 * by_kana.duration_s
