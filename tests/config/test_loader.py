from __future__ import annotations

from pathlib import Path

import pytest

from config import document
from config.loader import ConfigurationError, load
from config.settings import Settings

PROJECT = Path(__file__).resolve().parents[2]


def written(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text)
    return path


def test_arguments_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    file = written(tmp_path, "server:\n  port: 1001\n  host: 127.0.0.2\nlogging:\n  level: ERROR\n")
    environment = {"CHATTERBOX_SERVER__PORT": "1002", "CHATTERBOX_LOGGING__LEVEL": "DEBUG", "PATH": "/bin"}

    settings = load(file, environment, {("server", "port"): 1003, ("server", "host"): None})

    assert settings.server.port == 1003
    assert settings.server.host == "127.0.0.2"
    assert settings.logging.level == "DEBUG"


def test_lists_and_nulls_can_come_from_the_environment() -> None:
    environment = {"CHATTERBOX_SPEECH__EXPORT_FORMATS": "[flac]", "CHATTERBOX_SPEECH__DEFAULT_VOICE": "null"}

    settings = load(None, environment, {})

    assert settings.speech.export_formats == ("flac",)
    assert settings.speech.default_voice is None


def test_a_format_named_twice_is_made_once() -> None:
    settings = load(None, {"CHATTERBOX_SPEECH__EXPORT_FORMATS": "[flac, wav, flac]"}, {})

    assert settings.speech.export_formats == ("flac", "wav")


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("server:\n  prot: 80\n", "line 2", "server.prot"),
        ("# a\n\nserver:\n  host: x\n  port: 70000\n", "line 5", "server.port"),
        ("enigne:\n  name: auto\n", "line 2", "enigne"),
        ("engine: auto\n", "line 1", "engine"),
        ("server:\n  port: 1\n  port: 2\n", "line 3", "port"),
        ("speech:\n  temperature: .nan\n", "line 2", "speech.temperature"),
        ("speech:\n  export_formats: []\n", "line 2", "speech.export_formats"),
        ("server:\n  cors_origin_regex: '('\n", "line 2", "server.cors_origin_regex"),
    ],
)
def test_a_fault_stops_the_start_with_key_file_and_line(tmp_path: Path, text: str, line: str, key: str) -> None:
    file = written(tmp_path, text)

    with pytest.raises(ConfigurationError) as stop:
        load(file, {}, {})

    assert str(file) in str(stop.value)
    assert line in str(stop.value)
    assert key in str(stop.value)


def test_a_misspelt_key_gets_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="did you mean port"):
        load(written(tmp_path, "server:\n  prot: 80\n"), {}, {})


@pytest.mark.parametrize("name", ["CHATTERBOX_SERVER__PROT", "CHATTERBOX_SERVER_PORT", "CHATTERBOX_PORT"])
def test_a_misspelt_environment_variable_stops_the_start(name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        load(None, {name: "80"}, {})


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as stop:
        load(written(tmp_path, "server:\n  prot: 80\n"), {}, {("server", "port"): -1})

    assert "server.prot" in str(stop.value)
    assert "argument for server.port" in str(stop.value)


def test_a_file_that_is_not_yaml_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"config\.yaml: is not YAML"):
        load(written(tmp_path, "a: b: c: -"), {}, {})


def test_the_shipped_file_holds_every_setting_with_its_default() -> None:
    shipped = PROJECT / "config.yaml"

    assert shipped.read_text(encoding="utf-8") == document.config_yaml()
    assert load(shipped, {}, {}) == Settings()


def test_the_page_on_configuration_is_the_one_the_settings_print() -> None:
    assert (PROJECT / "docs/configuration.md").read_text(encoding="utf-8") == document.configuration_markdown()
