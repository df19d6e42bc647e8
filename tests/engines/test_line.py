from __future__ import annotations

import pytest

from engines.base import ChunkRequest, Sampling, VoicePrompt
from engines.line import Appointments, Line
from resilience.errors import ServiceOverloaded


def chunks(*texts: str) -> list[ChunkRequest]:
    sampling = Sampling(exaggeration=0.5, temperature=0.8, cfg_weight=1.0)
    return [ChunkRequest(text, "en", VoicePrompt("any"), sampling, seed=1) for text in texts]


def served(line: Line) -> list[str]:
    texts = []
    while turn := line.next():
        assert isinstance(turn[2], ChunkRequest)
        texts.append(turn[2].text)
    return texts


def entered(line: Line, request_id: int, *texts: str) -> None:
    line.enter(request_id, retry_after_s=lambda: 1)
    line.put(request_id, chunks(*texts))


def test_a_short_text_is_not_kept_waiting_by_a_long_one() -> None:
    line = Line(max_requests=4)
    entered(line, 1, "long 0", "long 1", "long 2", "long 3")
    entered(line, 2, "short")

    assert served(line)[:2] == ["long 0", "short"]


def test_requests_take_turns_and_keep_the_order_of_their_text() -> None:
    line = Line(max_requests=4)
    entered(line, 1, "a0", "a1", "a2")
    entered(line, 2, "b0", "b1")

    assert served(line) == ["a0", "b0", "a1", "b1", "a2"]


def test_a_full_line_refuses_and_says_when_to_come_back() -> None:
    line = Line(max_requests=1)
    entered(line, 1, "a")
    line.next()

    with pytest.raises(ServiceOverloaded) as refusal:
        line.enter(2, retry_after_s=lambda: 7)

    assert refusal.value.retry_after_s == 7


def test_a_place_is_held_before_there_is_anything_to_say() -> None:
    line = Line(max_requests=1)
    line.enter(1, retry_after_s=lambda: 1)

    with pytest.raises(ServiceOverloaded):
        line.enter(2, retry_after_s=lambda: 1)

    assert line.next() is None


def test_who_leaves_makes_room_and_is_not_spoken() -> None:
    line = Line(max_requests=1)
    entered(line, 1, "a")
    line.leave(1)
    entered(line, 2, "b")

    assert served(line) == ["b"]


def used_to(held_s: float, places: int) -> Appointments:
    """Appointments after many requests that held their places for so long."""
    appointments = Appointments(places)
    for request_id in range(50):
        appointments.taken(request_id, now=0.0)
        appointments.given_up(request_id, now=held_s)
    return appointments


def test_those_who_are_refused_together_do_not_come_back_together() -> None:
    appointments = used_to(0.1, places=4)

    seconds = [appointments.next_after_s(now=100.0) for _ in range(20)]

    assert seconds == sorted(seconds)
    assert max(seconds.count(second) for second in seconds) <= 4
    assert seconds[0] == 1
    assert seconds[-1] <= 12


def test_where_places_are_held_for_long_they_come_back_later_and_farther_apart() -> None:
    appointments = used_to(10.0, places=2)

    seconds = [appointments.next_after_s(now=0.0) for _ in range(4)]

    assert seconds[0] >= 10
    assert seconds[-1] - seconds[0] >= 3 * 10 / 2


def test_texts_that_take_longer_than_those_before_are_noticed_while_they_are_spoken() -> None:
    appointments = used_to(0.1, places=2)
    appointments.taken(100, now=1000.0)

    assert appointments.next_after_s(now=1000.0) == 1
    assert appointments.next_after_s(now=1004.0) >= 8


def test_nobody_is_sent_away_for_longer_than_clients_wait_and_old_appointments_are_forgotten() -> None:
    appointments = Appointments(places=1)

    assert all(1 <= appointments.next_after_s(now=0.0) <= 60 for _ in range(500))
    assert appointments.next_after_s(now=1000.0) <= 5
