from __future__ import annotations

import pytest

from utils.concatenation.notation import silence_ms


@pytest.mark.parametrize(
    ("written", "duration_ms"),
    [
        ("(500ms)", 500),
        ("(1.5s)", 1500),
        ("(1s)", 1000),
        ("(0.5s)", 500),
        ("(50ms)", 50),
        ("(10s)", 10_000),
        ("(10000ms)", 10_000),
        ("(0250ms)", 250),
        ("(62.5ms)", 62.5),
    ],
)
def test_a_silence_is_written_in_parentheses(written: str, duration_ms: float) -> None:
    assert silence_ms(written) == pytest.approx(duration_ms)


@pytest.mark.parametrize(
    "name", ["one.wav", "500ms", "(intro) one.wav", "take (1s).wav", " (1s)", "(1s) ", "", "(", ")"]
)
def test_what_is_not_in_parentheses_is_no_silence(name: str) -> None:
    assert silence_ms(name) is None


@pytest.mark.parametrize(
    "written",
    [
        "()",
        "(ms)",
        "(.5s)",
        "(1.s)",
        "( 250ms)",
        "(250 ms)",
        "(250ms )",
        "(250MS)",
        "(1S)",
        "(1s\n)",
        "(500)",
        "(1m)",
        "(-1s)",
        "(1,5s)",
        "(1e3ms)",
        "(nan s)",
        "(1s)(1s)",
        "(٥s)",
        "(pause)",
        "(1 2s)",
    ],
)
def test_anything_else_in_parentheses_is_a_fault_that_is_named(written: str) -> None:
    with pytest.raises(ValueError, match="is no silence") as fault:
        silence_ms(written)

    assert ascii(written) in str(fault.value)


@pytest.mark.parametrize("written", ["(49ms)", "(0s)", "(10.001s)", "(11s)", "(999999999s)"])
def test_a_silence_that_is_too_short_or_too_long_is_a_fault(written: str) -> None:
    with pytest.raises(ValueError, match="from 50 ms to 10 s"):
        silence_ms(written)
