"""The documentation pages in a real browser: they render, they speak, and nothing they load comes from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from tests.chromium import PATIENCE_S, chromium, needs_chromium
from tests.serving import Server

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path_factory.mktemp("profile")) as running:
        yield running


def foreign_requests(browser: webdriver.Chrome, server: Server) -> set[str]:
    """Addresses outside our server that the pages asked for since the last call."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"}
    assert asked
    return {address for address in asked if not address.startswith((server.url, "data:", "blob:", "chrome:"))}


def test_try_it_out_speaks_and_nothing_leaves_the_machine(browser: webdriver.Chrome, server: Server) -> None:
    wait = WebDriverWait(browser, PATIENCE_S)
    browser.get(f"{server.url}/docs")
    operation = wait.until(
        lambda page: page.find_element(By.CSS_SELECTOR, "#operations-speech-create_speech_api_v1_tts_post")
    )
    operation.find_element(By.CSS_SELECTOR, ".opblock-summary-control").click()
    wait.until(lambda page: page.find_element(By.CSS_SELECTOR, ".opblock-body button.execute")).click()
    player = wait.until(lambda page: page.find_element(By.CSS_SELECTOR, ".live-responses-table audio"))
    status = browser.find_element(By.CSS_SELECTOR, ".live-responses-table .response .response-col_status").text

    assert status.startswith("200")
    assert wait.until(lambda page: page.execute_script("return arguments[0].duration", player)) > 1
    assert not foreign_requests(browser, server)


def test_redoc_renders_and_nothing_leaves_the_machine(
    browser: webdriver.Chrome, server: Server, tmp_path: Path
) -> None:
    browser.get(f"{server.url}/redoc")
    WebDriverWait(browser, PATIENCE_S).until(lambda page: "Say a text" in page.find_element(By.TAG_NAME, "body").text)

    assert browser.save_screenshot(str(tmp_path / "redoc.png"))
    assert not foreign_requests(browser, server)
