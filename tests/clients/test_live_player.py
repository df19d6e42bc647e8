"""The page of docs/examples in a real browser, from another origin than the server's: it plays what is still made."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from tests.chromium import PATIENCE_S, chromium, needs_chromium
from tests.serving import Server

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
LONG_TEXT = "and then we walked on through the long grass. " * 85
# What there is to hear at the moment when the first sound has left the loudspeaker.
WATCH = """
const [audio, text] = arguments;
document.querySelector("textarea").value = text;
audio.addEventListener("timeupdate", () => {
  if (audio.currentTime > 0) window.first ??= {
    status: document.querySelector("[role=status]").textContent,
    buffered_s: audio.buffered.end(0),
  };
});
"""

pytestmark = needs_chromium


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[str]:
    """The address of the examples, on a port of their own."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(EXAMPLES))) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{site.server_port}"
        site.shutdown()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path_factory.mktemp("profile")) as running:
        yield running


def test_the_first_words_are_heard_while_the_last_are_still_made(
    browser: webdriver.Chrome, server: Server, elsewhere: str
) -> None:
    wait = WebDriverWait(browser, PATIENCE_S)
    browser.get(f"{elsewhere}/live-player.html?server={server.url}")
    audio = browser.find_element(By.TAG_NAME, "audio")
    browser.execute_script(WATCH, audio, LONG_TEXT)

    browser.find_element(By.TAG_NAME, "button").click()
    first = wait.until(lambda page: page.execute_script("return window.first"))
    wait.until(lambda page: page.find_element(By.CSS_SELECTOR, "[role=status]").text == "whole")
    whole_s = browser.execute_script("return arguments[0].duration", audio)

    assert first["status"] == "arriving"
    assert 0 < first["buffered_s"] < whole_s
    assert whole_s > 120


def test_the_page_says_why_nothing_is_heard(browser: webdriver.Chrome, server: Server, elsewhere: str) -> None:
    browser.get(f"{elsewhere}/live-player.html?server={server.url}")
    browser.find_element(By.NAME, "voice").send_keys(" of nobody")

    browser.find_element(By.TAG_NAME, "button").click()

    WebDriverWait(browser, PATIENCE_S).until(
        lambda page: "failed" in page.find_element(By.CSS_SELECTOR, "[role=status]").text
    )
    assert "alloy of nobody" in browser.find_element(By.CSS_SELECTOR, "[role=status]").text
