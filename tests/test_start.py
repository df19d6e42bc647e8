"""start.py: the choice of a layer, the stamp, what it says when something is missing; and the locks themselves.

No test uses a network. Where an installation runs, a small program stands in for uv: it writes down how it was called.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import start

PROJECT = Path(start.__file__).parent
LOCKS = {
    "requirements.txt": "full.in",
    "requirements/light.txt": "light.in",
    "requirements/dev.txt": "dev.in",
    "requirements/uv.txt": "uv.in",
    "requirements/clients/openai-1.txt": "clients/openai-1.in",
    "requirements/clients/openai-3.txt": "clients/openai-3.in",
}

FAKE_UV = """#!{python}
import json, os, pathlib, sys
if "--version" in sys.argv:
    print("uv 0.13.9")
    sys.exit()
folder = pathlib.Path(__file__).parent
with (folder / "calls").open("a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
failing = folder / "failing"
for line in failing.read_text().splitlines() if failing.exists() else []:
    word, _, message = line.partition(" ")
    if word in sys.argv or any(argument.endswith(word) for argument in sys.argv):
        print("error: " + message)
        sys.exit(2)
print("Resolved 28 packages in 1ms")
"""


class Fresh:
    """A copy of start.py and the locks, as after a `git clone`, with a server that says how it was started."""

    def __init__(self, project: Path, tools: Path) -> None:
        self.project = project
        self.tools = tools
        shutil.copytree(PROJECT / "requirements", project / "requirements")
        shutil.copy(PROJECT / "start.py", project)
        shutil.copy(PROJECT / "requirements.txt", project)
        (project / "main_api.py").write_text("import sys\nprint('serving', *sys.argv[1:])\n")
        tools.mkdir()
        self.put_on_the_path("uv")

    def put_on_the_path(self, tool: str) -> None:
        file = self.tools / tool
        file.write_text(FAKE_UV.format(python=sys.executable))
        file.chmod(0o755)

    @property
    def environment(self) -> start.Environment:
        return start.Environment(self.project)

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "HF_"))}
        environ.update(PATH=str(self.tools), HF_ENDPOINT=f"http://127.0.0.1:{unused_port()}", HF_HOME=str(self.tools))
        command = [sys.executable, "start.py", *arguments]
        environ.update(variables)
        return subprocess.run(command, cwd=self.project, env=environ, capture_output=True, text=True, timeout=60)

    def installs(self) -> list[list[str]]:
        """The arguments of every call of uv since the last time it was asked."""
        calls = self.tools / "calls"
        said = [json.loads(line) for line in calls.read_text().splitlines()] if calls.exists() else []
        calls.unlink(missing_ok=True)
        return said

    def fail(self, word: str, message: str) -> None:
        """Let uv fail with the message where `word` ends one of its arguments."""
        (self.tools / "failing").write_text(f"{word} {message}\n")

    def mend(self) -> None:
        (self.tools / "failing").unlink()


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def fresh(tmp_path: Path) -> Fresh:
    if os.name == "nt":
        pytest.skip("the program that stands in for uv is a POSIX script")
    return Fresh(tmp_path / "project", tmp_path / "tools")


# ---- Which layer


@pytest.mark.parametrize(
    ("light", "has_full", "machine", "layer"),
    [
        (False, False, ("Linux", "x86_64"), "full"),
        (True, False, ("Linux", "x86_64"), "light"),
        (True, True, ("Linux", "x86_64"), "full"),
        (False, False, ("Windows", "AMD64"), "full"),
        (False, False, ("Darwin", "arm64"), "full"),
        (False, False, ("Darwin", "x86_64"), "light"),
    ],
)
def test_the_layer_follows_the_wish_the_machine_and_what_is_there(
    light: bool, has_full: bool, machine: tuple[str, str], layer: str
) -> None:
    assert start.choose_layer(light, has_full, *machine) == layer


@pytest.mark.parametrize(
    ("system", "driver", "variables", "backend"),
    [
        ("Linux", 580, {}, None),
        ("Linux", 535, {}, "auto"),
        ("Linux", None, {}, "auto"),
        ("Windows", 580, {}, "auto"),
        ("Darwin", None, {}, None),
        ("Linux", 580, {"UV_TORCH_BACKEND": "cu128"}, "cu128"),
    ],
)
def test_torch_comes_from_the_lock_only_where_the_lock_has_the_right_build(
    system: str, driver: int | None, variables: dict[str, str], backend: str | None
) -> None:
    assert start.torch_backend(system, driver, variables) == backend


# ---- Installing


def test_the_first_start_installs_and_serves_and_the_second_only_serves(fresh: Fresh) -> None:
    first = fresh.run("--light", "--port", "7999")
    calls = fresh.installs()
    second = fresh.run("--light", "--port", "7999")

    assert first.stdout.splitlines()[-1] == "serving --port 7999", first.stderr
    assert "Install the light layer" in first.stdout
    assert len(calls) == 1
    assert {"--require-hashes", "--no-deps", str(fresh.project / "requirements/light.txt")} <= set(calls[0])
    assert second.stdout == "serving --port 7999\n"
    assert fresh.installs() == []


def test_a_changed_lock_is_installed_by_the_next_start(fresh: Fresh) -> None:
    fresh.run("--light")
    fresh.installs()
    with (fresh.project / "requirements/light.txt").open("a") as lock:
        lock.write("# changed\n")

    assert fresh.run("--light").stdout.endswith("serving\n")
    assert len(fresh.installs()) == 1


def test_without_a_gpu_torch_comes_from_its_own_index_and_the_rest_from_the_lock(fresh: Fresh) -> None:
    assert fresh.run().stdout.endswith("serving\n")

    asked, torch, rest = fresh.installs()
    pins = start.pins_of(PROJECT / "requirements.txt")
    excluded = Path(rest[rest.index("--excludes") + 1]).read_text().split()
    assert "--dry-run" in asked
    assert {"--torch-backend", "auto", f"torch=={pins['torch']}", f"torchaudio=={pins['torchaudio']}"} <= set(torch)
    assert {"torch", "torchaudio", "triton", "nvidia-cudnn-cu13", "cuda-toolkit"} <= set(excluded)
    assert "numpy" not in excluded


def test_where_the_torch_index_cannot_be_reached_the_whole_lock_is_installed(fresh: Fresh) -> None:
    fresh.fail("--torch-backend", "dns error")

    said = fresh.run()

    assert "cannot be reached; the ordinary build is taken instead" in said.stdout
    assert said.stdout.endswith("serving\n")
    assert "--excludes" not in fresh.installs()[-1]


def test_a_full_environment_stays_full_and_satisfies_light(fresh: Fresh) -> None:
    fresh.run()
    fresh.installs()

    assert fresh.run("--light").stdout == "serving\n"
    assert fresh.installs() == []


def test_an_installation_that_was_cut_short_is_made_anew_by_the_next_start(fresh: Fresh) -> None:
    fresh.run("--light")
    fresh.installs()
    fresh.environment.stamp("light", None)
    leftover = fresh.project / ".venv/lib/half-a-package"
    leftover.mkdir()

    said = fresh.run("--light")

    assert "cut short" in said.stdout
    assert said.stdout.endswith("serving\n")
    assert not leftover.exists()
    assert len(fresh.installs()) == 1


def test_a_test_run_that_was_cut_short_does_not_cost_the_full_layer(fresh: Fresh) -> None:
    fresh.run()
    fresh.environment.stamp("dev", None)
    fresh.installs()

    fresh.run("test")

    assert fresh.environment.has("full")
    assert fresh.environment.has("dev")


def test_a_failed_installation_ends_with_the_installers_words_and_an_advice(fresh: Fresh) -> None:
    fresh.fail("light.txt", "No space left on device (os error 28)")

    said = fresh.run("--light")
    fresh.mend()
    again = fresh.run("--light")

    assert said.returncode == 1
    assert "error: No space left on device (os error 28)" in said.stderr
    assert "The disk is full" in said.stderr
    assert again.stdout.endswith("serving\n")


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        ("cause: client error (Connect): dns error", "package index cannot be reached"),
        ("invalid peer certificate: UnknownIssuer", "SSL_CERT_FILE"),
        ("failed to copy: Permission denied (os error 13)", "cannot be written"),
        ("Hash mismatch for `numpy==2.4.6`", "not the one in the lock"),
        ("llvmlite==0.50.0 has no usable wheels", "--light"),
        ("something never seen before", ""),
    ],
)
def test_what_an_installer_says_leads_to_what_to_do(words: str, advice: str) -> None:
    assert advice in start.advice_for(words)
    assert bool(advice) == bool(start.advice_for(words))


def test_a_second_start_waits_for_the_one_that_installs(fresh: Fresh) -> None:
    environment = fresh.environment
    environment.folder.mkdir()
    command = [sys.executable, "start.py", "--light"]
    with start.one_at_a_time(environment.busy_file):
        other = subprocess.Popen(
            command, cwd=fresh.project, env={"PATH": str(fresh.tools)}, stdout=subprocess.PIPE, text=True
        )
        assert other.stdout is not None
        first_line = other.stdout.readline()

    rest, _ = other.communicate(timeout=60)
    assert first_line == "Another start.py is installing into .venv; waiting for it.\n"
    assert rest.endswith("serving\n")


@pytest.mark.parametrize(
    ("said", "suits"),
    [
        ("uv 0.13.9 (x86_64-unknown-linux-gnu)", True),
        ("uv 0.14.0", True),
        ("uv 0.13.8", False),
        ("uv 1.0.0", False),
        ("pyenv: uv: command not found", False),
        ("", False),
    ],
)
def test_a_uv_from_elsewhere_is_used_if_it_is_no_older_than_the_pinned_one(said: str, suits: bool) -> None:
    assert start.uv_suits(said, "0.13.9") is suits


def test_installers_get_the_same_certificates_and_index() -> None:
    settings = start.installer_settings({"PIP_CERT": "/ca.pem", "PIP_INDEX_URL": "mirror"})

    assert settings["SSL_CERT_FILE"] == settings["PIP_CERT"] == settings["NODE_EXTRA_CA_CERTS"] == "/ca.pem"
    assert settings["UV_DEFAULT_INDEX"] == "mirror"
    assert settings["UV_PYTHON_DOWNLOADS"] == "never"


# ---- What the tests talk to the server with


def test_a_test_run_installs_its_clients_once_each_in_a_folder_of_its_own(fresh: Fresh) -> None:
    fresh.put_on_the_path("npm")

    fresh.run("test")
    *_, one, three, javascript = fresh.installs()
    fresh.run("test")

    for call, name in ((one, "openai-1"), (three, "openai-3")):
        assert call[call.index("--target") + 1] == str(fresh.environment.clients / name)
        assert {"--require-hashes", str(fresh.project / f"requirements/clients/{name}.txt")} <= set(call)
    assert javascript[0] == "ci"
    assert fresh.installs() == []


def test_a_client_whose_lock_has_changed_is_made_anew(fresh: Fresh) -> None:
    fresh.run("test")
    fresh.installs()
    leftover = fresh.environment.clients / "openai-3/old.py"
    leftover.touch()
    with (fresh.project / "requirements/clients/openai-3.txt").open("a") as lock:
        lock.write("# changed\n")

    fresh.run("test")

    (call,) = fresh.installs()
    assert call[call.index("--target") + 1] == str(leftover.parent)
    assert not leftover.exists()


def test_a_client_that_could_not_be_installed_is_tried_again(fresh: Fresh) -> None:
    fresh.fail("openai-1.txt", "dns error")

    said = fresh.run("test")
    fresh.mend()
    fresh.installs()
    fresh.run("test")

    assert said.returncode == 1
    assert "package index cannot be reached" in said.stderr
    assert len(fresh.installs()) == 2


def test_without_npm_the_clients_in_javascript_are_left_out_aloud(fresh: Fresh) -> None:
    assert "npm is missing" in fresh.run("test").stdout
    assert not (fresh.environment.clients / "js").exists()


def test_a_server_is_started_without_any_client(fresh: Fresh) -> None:
    fresh.run()

    assert not fresh.environment.clients.exists()


# ---- What it says


@pytest.mark.parametrize(
    ("version", "suits"), [("3.10.13", False), ("3.11.0", True), ("3.13.0rc1", True), ("3.14", False)]
)
def test_python_from_3_11_to_3_13_will_do(version: str, suits: bool) -> None:
    assert start.is_suitable(version) is suits


def test_a_wrong_python_is_told_which_ones_will_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(start, "PYTHONS", ((3, 99),))
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(start.Problem, match=re.escape("Python 3.11, 3.12 or 3.13 is needed, found 3.")):
        start.find_python()


def test_a_misspelt_command_installs_nothing(fresh: Fresh) -> None:
    said = fresh.run("tset")

    assert said.returncode == 1
    assert "no command 'tset'" in said.stderr
    assert not fresh.environment.folder.exists()


def test_help_names_every_command(fresh: Fresh) -> None:
    said = fresh.run("--help")

    assert said.returncode == 0
    assert all(f"start.py {word}" in said.stdout for word in ("[--light]", "test", "doctor", "lock", "--help"))


def test_the_doctor_names_what_is_missing_and_how_to_mend_it(fresh: Fresh) -> None:
    said = fresh.run("doctor")

    assert said.returncode == 1
    assert re.search(r"^missing +\.venv: nothing installed yet\n +mend: python3 start\.py", said.stdout, re.M)
    assert re.search(r"^ok +Python: 3\.", said.stdout, re.M)
    assert not fresh.environment.folder.exists()


def test_the_doctor_finds_a_port_that_is_taken() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()

        finding = start.check_port(other.getsockname()[1])

    assert finding.mark == "warning"
    assert "--port" in finding.mend


# ---- The locks


def pins_with_sources(file: Path) -> dict[str, set[str]]:
    """Name → versions that an .in file and those that it includes ask for."""
    text = file.read_text("utf-8")
    pins: dict[str, set[str]] = {}
    for included in re.findall(r"^-r (\S+)", text, re.M):
        pins.update(pins_with_sources(file.parent / included))
    for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.M):
        pins.setdefault(name, set()).add(version)
    return pins


def locked(lock: str) -> dict[str, set[str]]:
    pins: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", (PROJECT / lock).read_text("utf-8"), re.M):
        pins.setdefault(name, set()).add(version)
    return pins


@pytest.mark.parametrize(("lock", "source"), LOCKS.items())
def test_a_lock_holds_the_pins_of_its_source(lock: str, source: str) -> None:
    asked = pins_with_sources(PROJECT / "requirements" / source)

    assert asked.items() <= locked(lock).items(), "python3 start.py lock"


@pytest.mark.parametrize("source", LOCKS.values())
def test_every_requirement_is_pinned_exactly(source: str) -> None:
    lines = (PROJECT / "requirements" / source).read_text("utf-8").splitlines()
    requirements = [line for line in lines if line and not line.startswith(("#", "-r "))]

    assert [line for line in requirements if not re.match(r"[\w.-]+==\d", line)] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_every_line_of_a_lock_has_hashes(lock: str) -> None:
    text = (PROJECT / lock).read_text("utf-8")
    entries = re.split(r"^(?=[A-Za-z0-9])", re.sub(r"^ *#.*\n", "", text, flags=re.M), flags=re.M)

    assert entries[1:]
    assert [
        entry for entry in entries[1:] if not re.fullmatch(r"[^\n]+ \\\n( +--hash=sha256:[0-9a-f]{64}( \\)?\n)+", entry)
    ] == []


def test_the_lock_of_npm_holds_the_pins_of_its_source_with_hashes() -> None:
    folder = PROJECT / "requirements/clients"
    asked = json.loads((folder / "package.json").read_text("utf-8"))["dependencies"]
    packages = json.loads((folder / "package-lock.json").read_text("utf-8"))["packages"]
    root = packages.pop("")

    assert root["dependencies"] == asked, "python3 start.py lock"
    assert all(re.search(r"@\d+\.\d+\.\d+$", pin) for pin in asked.values())
    assert {f"node_modules/{name}" for name in asked} <= packages.keys()
    assert all(package["integrity"].startswith("sha512-") for package in packages.values())


@pytest.mark.parametrize(
    "file",
    [
        *LOCKS,
        *(f"requirements/{name}" for name in ("overrides.txt", "excludes.txt", *LOCKS.values())),
        *(f"requirements/clients/{name}" for name in ("package.json", "package-lock.json")),
    ],
)
def test_no_requirements_file_names_an_address_or_a_folder(file: str) -> None:
    text = (PROJECT / file).read_text("utf-8")

    assert not re.search(r"://|\bwww\.|\.(org|com|io|net)\b|find-links|index-url|(^|\s)/\w", text, re.M)


def test_the_layers_agree_so_that_one_can_be_installed_over_another() -> None:
    full, dev = locked("requirements.txt"), locked("requirements/dev.txt")

    assert locked("requirements/light.txt").items() <= full.items()
    assert locked("requirements/light.txt").items() <= dev.items()
    assert {name: full[name] for name in full.keys() & dev.keys()} == {
        name: dev[name] for name in full.keys() & dev.keys()
    }


def test_every_override_holds_in_the_lock_and_every_exclusion_is_out_of_it() -> None:
    full = locked("requirements.txt")
    excluded = re.findall(r"^([\w-]+)", (PROJECT / "requirements/excludes.txt").read_text("utf-8"), re.M)
    overrides = pins_with_sources(PROJECT / "requirements/overrides.txt")

    assert len(excluded) == 4
    assert not full.keys() & set(excluded)
    assert overrides.items() <= full.items()
