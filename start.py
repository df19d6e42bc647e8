"""Make this folder's Python environment, then serve, test or report.

    python3 start.py [--light] [--host ADDRESS] [--port NUMBER] [--engine NAME] [--data-dir FOLDER] [--config FILE]
                                install what is missing into .venv, then serve; every argument but --light goes
                                to main_api.py. --light leaves out torch and Chatterbox: the embedded engine speaks
    python3 start.py test ...   install all of it, the tools and some clients, then lint, check types and run pytest
                                with ...
    python3 start.py doctor     say what is there, what is missing and how to mend it
    python3 start.py lock ...   write the locks anew from requirements/*.in; ... goes to uv (--upgrade, say)
    python3 start.py --help     this text

Standard library only, and no syntax newer than Python 3.8: an older Python gets far enough to name the one it needs.
Why it installs the way it does: docs/decisions/installing.md.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Dict, Iterator, List, Mapping, NamedTuple, NoReturn, Optional, Sequence, Tuple

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

PYTHONS = ((3, 11), (3, 12), (3, 13))
WINDOWS = os.name == "nt"
PORT = 7860
REMAKE = "delete .venv, then python3 start.py"
CUDA_13_DRIVER = 580  # the oldest NVIDIA driver that runs the CUDA build of torch in the lock

# A layer is there if any of these is: each lock holds every package of the ones before it.
COVERED_BY = {"light": ("light", "full", "dev"), "full": ("full", "dev"), "dev": ("dev",)}
LOCKS = {"light": "requirements/light.txt", "full": "requirements.txt", "dev": "requirements/dev.txt"}
UV_LOCK = "requirements/uv.txt"
CLIENTS = "requirements/clients"  # what the tests talk to the server with: see install_clients
CLIENT_LOCK = "installed-from"
# Whole files of tests to each of up to four processes: several servers fit beside each other, and share nothing.
AT_ONCE = ("--numprocesses", "auto", "--maxprocesses", "4", "--dist", "loadfile")
NPM_OPTIONS = ("--ignore-scripts", "--no-audit", "--no-fund")

# In the order in which they are written: the later ones take the versions of the earlier ones.
REPLACED = ("--overrides", "requirements/overrides.txt", "--excludes", "requirements/excludes.txt")
COMPILED = (
    ("full.in", "requirements.txt", REPLACED),
    ("dev.in", "requirements/dev.txt", (*REPLACED, "-c", "requirements.txt")),
    ("light.in", "requirements/light.txt", ("-c", "requirements.txt", "-c", "requirements/dev.txt")),
    ("uv.in", UV_LOCK, ()),
    ("clients/openai-1.in", f"{CLIENTS}/openai-1.txt", ()),
    ("clients/openai-3.in", f"{CLIENTS}/openai-3.txt", ()),
)

# What an installer prints when it fails → what a person can do about it. The first match counts.
ADVICE = {
    r"no space left|disk full|disk quota|os error (28|112)\b": (
        "The disk is full: the full layer needs about 6 GB, --light 0.3 GB. Free some space and start again."
    ),
    r"certificate|UnknownIssuer": (
        "A certificate was refused. Behind a company's proxy, name its CA file in SSL_CERT_FILE and start again."
    ),
    r"hash mismatch|do not match the hashes": (
        "A file is not the one in the lock. A package mirror may have altered it; without one, try again."
    ),
    r"no usable wheels|no wheels with a matching|no matching distribution": (
        "A package has no ready-made build for this machine. --light needs fewer of them."
    ),
    r"permission denied|read-only file system|access is denied|os error (5|13|30)\b": (
        "A file or folder cannot be written. Is it yours, and is no server running from it?"
    ),
    r"dns error|failed to fetch|error sending request|connecti|timed out|unreachable|name resolution": (
        "The package index cannot be reached. Is there a network? A proxy goes into HTTPS_PROXY, a mirror into\n"
        "UV_DEFAULT_INDEX (for npm, into npm_config_registry). What has been downloaded is kept: start again."
    ),
}


class Problem(Exception):
    """Something that stops start.py, as sentences for a person."""


def say(text: str) -> None:
    print(text, flush=True)


def main(arguments: List[str]) -> int:
    commands = {"test": run_tests, "doctor": doctor, "lock": write_locks}
    first = arguments[0] if arguments else ""
    try:
        if first in ("--help", "-h", "help"):
            say(__doc__.strip() if __doc__ else "")
            return 0
        environment = Environment(Path(__file__).resolve().parent)
        if first in commands:
            return commands[first](environment, arguments[1:])
        if first and not first.startswith("-"):
            raise Problem(f"There is no command {first!r}. Known: {', '.join(commands)}; see --help.")
        return serve(environment, arguments)
    except Problem as problem:
        print(f"start.py: {problem}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"start.py: {error}\n{advice_for(str(error))}".rstrip(), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("start.py: interrupted; the next start goes on from here", file=sys.stderr)
        return 130


# ---- The environment and its stamp


class Environment:
    """The .venv of a project folder, and the stamp in it that says which layers it holds.

    The stamp maps each layer to the hash of the lock that it was installed from, None while that is under way.
    """

    def __init__(self, project: Path) -> None:
        self.project = project
        self.folder = project / ".venv"
        self.python = self.folder / ("Scripts/python.exe" if WINDOWS else "bin/python")
        self.stamp_file = self.folder / "start-stamp.json"
        self.busy_file = self.folder / "start-busy"
        self.uv_folder = self.folder / "uv-tool"
        self.clients = self.folder / "clients"

    def lock_hash(self, layer: str) -> str:
        return hashlib.sha256((self.project / LOCKS[layer]).read_bytes()).hexdigest()

    def python_version(self) -> str:
        """The full version of the Python in .venv, read without starting it; empty if there is none that runs."""
        try:
            found = re.search(r"^version(?:_info)?\s*=\s*(\S+)", (self.folder / "pyvenv.cfg").read_text("utf-8"), re.M)
        except OSError:
            return ""
        return found.group(1) if found and self.python.exists() else ""

    def stamped(self) -> Dict[str, Optional[str]]:
        """Layer → hash, for what was installed for the Python that is there now."""
        try:
            stamp = json.loads(self.stamp_file.read_text("utf-8"))
            layers = stamp["layers"] if stamp["python"] == self.python_version() else {}
            return {name: layers[name] for name in LOCKS if name in layers}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def has(self, layer: str) -> bool:
        """True if every package of the layer is there as its lock says."""
        stamped = self.stamped()
        return any(stamped.get(name) == self.lock_hash(name) for name in COVERED_BY[layer] if stamped.get(name))

    def stamp(self, layer: str, lock_hash: Optional[str]) -> None:
        layers = dict(self.stamped(), **{layer: lock_hash})
        fresh = self.stamp_file.with_suffix(".new")
        fresh.write_text(json.dumps({"python": self.python_version(), "layers": layers}), "utf-8")
        fresh.replace(self.stamp_file)


def choose_layer(light: bool, has_full: bool, system: str, machine: str) -> str:
    """The layer to serve with. What is already full stays so: taking torch away again would save nobody time."""
    if has_full:
        return "full"
    return "light" if light or (system, machine) == ("Darwin", "x86_64") else "full"  # no torch for Intel Macs


# ---- Commands


def serve(environment: Environment, arguments: List[str]) -> int:
    light = "--light" in arguments
    layer = choose_layer(light, bool(environment.stamped().get("full")), platform.system(), platform.machine())
    if layer == "light" and not light:
        say("There is no torch for this kind of machine, so Chatterbox is left out (as with --light).")
    if not environment.has(layer):
        prepare(environment, layer)
    server = str(environment.project / "main_api.py")
    hand_over([str(environment.python), server, *(word for word in arguments if word != "--light")])


def hand_over(command: List[str]) -> NoReturn:
    """Become the command, so that signals reach it directly; where a process cannot, wait for it."""
    sys.stdout.flush()
    if not WINDOWS:
        os.execv(command[0], command)  # noqa: S606 - no shell is what is wanted
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both; the server is the one to act on it
    sys.exit(subprocess.call(command))


def run_tests(environment: Environment, arguments: List[str]) -> int:
    if not environment.has("dev"):
        prepare(environment, "dev")
    install_clients(environment)
    # One thread each: many threads on few cores make the model's tests several times slower. No test may use the hub.
    settings = dict(os.environ, OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1")
    for words in (
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy"],
        ["pytest", *AT_ONCE, *arguments],
    ):
        say("\n$ " + " ".join(words))
        code = subprocess.call([str(environment.python), "-m", *words], cwd=str(environment.project), env=settings)
        if code:
            print(f"start.py: {words[0]} failed (exit code {code})", file=sys.stderr)
            return code
    return 0


def write_locks(environment: Environment, arguments: List[str]) -> int:
    environment.folder.mkdir(exist_ok=True)
    with one_at_a_time(environment.busy_file):
        uv = find_uv(environment)
    for source, target, options in COMPILED:
        command = [uv, "pip", "compile", "--no-config", "--quiet", "--universal", "--python-version", "3.11"]
        command += ["--only-binary", ":all:", "--generate-hashes", "--custom-compile-command", "python3 start.py lock"]
        command += [*options, *arguments, f"requirements/{source}", "-o", target]
        run_step(f"Write {target}", command, cwd=environment.project)
    npm = shutil.which("npm")
    if npm:
        write_npm_lock(npm, environment.project / CLIENTS)
    else:
        say(f"npm is missing: {CLIENTS}/package-lock.json stays as it is")
    return 0


def write_npm_lock(npm: str, folder: Path) -> None:
    """Names, versions and hashes, as in the other locks: no addresses, neither of a registry nor of donations."""
    command = [npm, "install", "--package-lock-only", "--omit-lockfile-registry-resolved", *NPM_OPTIONS]
    run_step(f"Write {CLIENTS}/package-lock.json", command, cwd=folder)
    lock = json.loads((folder / "package-lock.json").read_text("utf-8"))
    for package in lock["packages"].values():
        package.pop("funding", None)
    (folder / "package-lock.json").write_text(json.dumps(lock, indent=2) + "\n", "utf-8")


# ---- Installing


def prepare(environment: Environment, layer: str) -> None:
    """Install a layer into .venv, making or mending that first. One start.py at a time does so."""
    environment.folder.mkdir(exist_ok=True)
    with one_at_a_time(environment.busy_file):
        if environment.has(layer):
            return  # another start.py was at it while this one waited
        stamped, version = environment.stamped(), environment.python_version()
        if None in stamped.values():
            say("The last installation was cut short; .venv is made anew (downloads are kept).")
            make_venv(environment)
        elif not is_suitable(version):
            if version:
                say(f".venv holds Python {version}, which the server does not run on; it is made anew.")
            make_venv(environment)
        uv = find_uv(environment)
        install(environment, uv, layer)


def make_venv(environment: Environment) -> None:
    python = find_python()
    for entry in environment.folder.iterdir():
        if entry in (environment.busy_file, environment.uv_folder):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    # Without pip: uv does its work, and Debian's Python can do this much before python3-venv is installed.
    run_step(f"Make .venv with {python}", [python, "-m", "venv", "--without-pip", str(environment.folder)])


def install(environment: Environment, uv: str, layer: str) -> None:
    lock_hash = environment.lock_hash(layer)
    lock = environment.project / LOCKS[layer]
    environment.stamp(layer, None)
    command = [uv, "pip", "install", "--python", str(environment.python), "--only-binary", ":all:"]
    options = ["--no-deps", "--require-hashes", "-r", str(lock)]  # a lock names all that it needs
    if layer != "light" and install_torch(environment, command, lock):
        options += ["--excludes", str(environment.folder / "from-torch-index.txt")]
    run_step(f"Install the {layer} layer from {LOCKS[layer]}", command + options)
    environment.stamp(layer, lock_hash)


def install_clients(environment: Environment) -> None:
    """Install the SDKs that the tests talk to the server with, each into a folder of its own in .venv/clients.

    They want other versions of what the server uses, and two of them are versions of one package. Each folder keeps
    the lock that it was installed from; one without it was cut short and is made anew. Without npm there are none for
    JavaScript, and their tests say so.
    """
    with one_at_a_time(environment.busy_file):
        locks = sorted((environment.project / CLIENTS).glob("*.txt"))
        outdated = [lock for lock in locks if client_lock(environment, lock.stem) != lock.read_text("utf-8")]
        uv = find_uv(environment) if outdated else ""
        for lock in outdated:
            folder = fresh_client_folder(environment, lock.stem)
            command = [uv, "pip", "install", "--python", str(environment.python), "--target", str(folder)]
            command += ["--only-binary", ":all:", "--no-deps", "--require-hashes", "-r", str(lock)]
            run_step(f"Install {lock.stem} for the tests", command)
            shutil.copy(str(lock), str(folder / CLIENT_LOCK))
        npm_lock = environment.project / CLIENTS / "package-lock.json"
        if client_lock(environment, "js") != npm_lock.read_text("utf-8"):
            install_npm_clients(environment, npm_lock)


def install_npm_clients(environment: Environment, lock: Path) -> None:
    npm = shutil.which("npm")
    if not npm:
        say("npm is missing: the tests with OpenAI's JavaScript SDK will be skipped")
        return
    folder = fresh_client_folder(environment, "js")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(str(lock.with_name(name)), str(folder))
    run_step("Install OpenAI's JavaScript SDK for the tests", [npm, "ci", *NPM_OPTIONS], cwd=folder)
    shutil.copy(str(lock), str(folder / CLIENT_LOCK))


def client_lock(environment: Environment, name: str) -> str:
    """The lock that a client was installed from; empty if it is not there, or not whole."""
    try:
        return (environment.clients / name / CLIENT_LOCK).read_text("utf-8")
    except OSError:
        return ""


def fresh_client_folder(environment: Environment, name: str) -> Path:
    folder = environment.clients / name
    shutil.rmtree(str(folder), ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def install_torch(environment: Environment, command: List[str], lock: Path) -> bool:
    """Install the locked versions of torch and torchaudio in the build for this machine, from PyTorch's own index.

    uv knows that index. Its files are other ones than the lock's, so they come without the lock's hashes. False if
    the lock's build is the one to take, or the index cannot be reached.
    """
    backend = torch_backend(platform.system(), nvidia_driver(), os.environ)
    if backend is None:
        return False
    pins = pins_of(lock)
    wanted = [*command, "--torch-backend", backend, *(f"{name}=={pins[name]}" for name in ("torch", "torchaudio"))]
    hasty = {"UV_HTTP_RETRIES": "0", "UV_HTTP_CONNECT_TIMEOUT": "5", "UV_HTTP_TIMEOUT": "10"}
    say(f"Ask PyTorch's index for the build that suits this machine ({backend})")
    if not succeeds([*wanted, "--no-deps", "--dry-run"], settings=hasty, timeout_s=20):
        say("  it cannot be reached; the ordinary build is taken instead (larger, and it runs on the CPU too)")
        return False
    run_step("Install torch and torchaudio from there", wanted)
    replaced = [name for name in pins if re.match(r"(torch|torchaudio|triton)$|nvidia-|cuda-", name)]
    (environment.folder / "from-torch-index.txt").write_text("\n".join(replaced) + "\n", "utf-8")
    return True


def torch_backend(system: str, driver: Optional[int], environ: Mapping[str, str]) -> Optional[str]:
    """uv's name for the build of torch to fetch from PyTorch's index; None where the lock's build is the right one.

    The lock holds PyPI's build: on macOS the only one, on Linux the one for NVIDIA with a recent driver. Elsewhere
    ("auto") uv looks at the machine: CPU only, AMD, an older driver, or Windows with a GPU.
    """
    if environ.get("UV_TORCH_BACKEND"):
        return environ["UV_TORCH_BACKEND"]
    if system == "Darwin" or (system == "Linux" and driver is not None and driver >= CUDA_13_DRIVER):
        return None
    return "auto"


def nvidia_driver() -> Optional[int]:
    """The major version of the NVIDIA driver, None without one."""
    found = re.match(r"(\d+)\.", output_of(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]))
    return int(found.group(1)) if found else None


def pins_of(file: Path) -> Dict[str, str]:
    """Name → version of each `name==version` in a requirements file."""
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", file.read_text("utf-8"), re.M))


# ---- Tools: a Python, uv, and how they are run


def is_suitable(version: str) -> bool:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2]) in PYTHONS


def find_python() -> str:
    """The interpreter to make .venv from: this one, or the first suitable one on PATH. Raises Problem."""
    if is_suitable(platform.python_version()):
        return sys.executable
    for major, minor in PYTHONS:
        launcher = ["py", f"-{major}.{minor}"] if WINDOWS else [f"python{major}.{minor}"]
        path = output_of([*launcher, "-c", "import sys; print(sys.executable)"])
        if path:
            return path
    raise Problem(
        f"Python 3.11, 3.12 or 3.13 is needed, found {platform.python_version()} and none of those on PATH.\n"
        "Install one of them (any will do) and start again."
    )


def find_uv(environment: Environment) -> str:
    """A uv of the pinned version or newer: from PATH, or of .venv's own, fetched with pip if need be."""
    pinned = pins_of(environment.project / "requirements/uv.in")["uv"]
    own = environment.uv_folder / "bin" / ("uv.exe" if WINDOWS else "uv")
    for candidate in (shutil.which("uv"), str(own)):
        if candidate and uv_suits(output_of([candidate, "--version"]), pinned):
            return candidate
    install_uv = ["-m", "pip", "install", "--quiet", "--upgrade", "--target", str(environment.uv_folder)]
    install_uv += ["--no-deps", "--only-binary", ":all:", "--require-hashes", "-r", str(environment.project / UV_LOCK)]
    run_step(f"Fetch the installer, uv {pinned}", [find_pip(environment), *install_uv])
    return str(own)


def uv_suits(said: str, pinned: str) -> bool:
    """True if `uv --version` said the pinned version or a later one before the next major."""
    found, wanted = ([int(part) for part in re.findall(r"\d+", text)[:3]] for text in (said, pinned))
    return len(found) == 3 and wanted <= found < [wanted[0] + 1]


def find_pip(environment: Environment) -> str:
    """A Python that has pip. Any version will do: uv is one program for all of them. Raises Problem."""
    for python in (sys.executable, str(environment.python)):
        if succeeds([python, "-m", "pip", "--version"]):
            return python
    if succeeds([str(environment.python), "-m", "ensurepip"]):
        return str(environment.python)
    raise Problem(
        "This Python has neither pip nor ensurepip to fetch the installer with. Mend it with one of:\n"
        "  apt install python3-venv    (Debian, Ubuntu)\n"
        "  dnf install python3-pip     (Fedora, RHEL)\n"
        "  or put uv on the PATH; then start again."
    )


def installer_settings(environ: Mapping[str, str]) -> Dict[str, str]:
    """The variables that pip, uv and npm run with: one certificate file, one index for Python, no Python downloads."""
    settings = dict(environ)
    named = [environ[name] for name in ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE") if environ.get(name)]
    if named:
        settings["SSL_CERT_FILE"] = named[0]
        settings.setdefault("PIP_CERT", named[0])
        settings.setdefault("NODE_EXTRA_CA_CERTS", named[0])
    if environ.get("PIP_INDEX_URL"):
        settings.setdefault("UV_DEFAULT_INDEX", environ["PIP_INDEX_URL"])
    settings.setdefault("UV_SYSTEM_CERTS", "1")
    # pip refuses --target beside --user, and outside a virtual environment if told to.
    settings.update(
        UV_PYTHON_DOWNLOADS="never", PIP_USER="0", PIP_REQUIRE_VIRTUALENV="0", PIP_ROOT_USER_ACTION="ignore"
    )
    return settings


def run_step(what: str, command: Sequence[str], cwd: Optional[Path] = None) -> None:
    """Run one step of an installation, and show how long it took. Raises Problem with its last lines."""
    say(what)
    started = time.monotonic()
    last: deque[str] = deque(maxlen=15)
    with subprocess.Popen(
        command,
        cwd=None if cwd is None else str(cwd),
        env=installer_settings(os.environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        close_fds=False,  # it holds the busy file too: an installer that outlives this process is waited for
    ) as process:
        for line in process.stdout or ():
            if re.match(r"\s*(Resolved|Downloading|Downloaded|Prepared|Installed|Uninstalled) ", line):
                say("  " + line.strip())
            else:
                last.append("  " + line.rstrip())
    if process.returncode:
        raise Problem("\n".join([f"{what}: failed. Its last lines:", *last, advice_for("\n".join(last))]).rstrip())
    say(f"  done in {time.monotonic() - started:.1f} s")


def advice_for(output: str) -> str:
    return next((advice for pattern, advice in ADVICE.items() if re.search(pattern, output, re.I)), "")


def succeeds(command: Sequence[str], settings: Optional[Mapping[str, str]] = None, timeout_s: float = 60) -> bool:
    environ = installer_settings(dict(os.environ, **(settings or {})))
    try:
        return subprocess.run(command, env=environ, capture_output=True, timeout=timeout_s, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def output_of(command: Sequence[str]) -> str:
    """What a command prints, stripped; empty if it is missing, hangs or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Hold a file that another start.py holds while it installs; the system frees it when all its holders are gone."""
    with path.open("a", encoding="utf-8") as file:
        if not take(file):
            say("Another start.py is installing into .venv; waiting for it.")
            while not take(file):
                time.sleep(0.2)
        os.set_inheritable(file.fileno(), True)
        yield


def take(file: IO[str]) -> bool:
    try:
        if sys.platform == "win32":
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


# ---- The doctor


class Finding(NamedTuple):
    """One line of the doctor's. "missing" is what it cannot serve without, "warning" what it can."""

    mark: str
    what: str
    detail: str
    mend: str = ""


def doctor(environment: Environment, arguments: List[str]) -> int:
    if arguments:
        raise Problem("doctor takes no arguments.")
    findings = [check_python(environment), check_venv(environment)]
    data_folder, port, torch = environment.project / "data", PORT, ""
    if environment.python_version():
        findings += [check_packages(environment), check_espeak(environment)]
        config, data_folder, port = check_config(environment)
        chatterbox = check_chatterbox(environment)
        torch = "".join(finding.detail for finding in chatterbox if finding.what == "torch")
        findings += [config, *chatterbox]
    findings += [check_gpu(torch), check_disk(environment), check_data(data_folder), check_port(port)]
    for finding in findings:
        say(f"{finding.mark:<8} {finding.what}: {finding.detail}")
        if finding.mark != "ok" and finding.mend:
            say(f"{'':<8} mend: {finding.mend}")
    able = all(finding.mark != "missing" for finding in findings)
    say("It can serve." if able else "It cannot serve yet: see what is missing above.")
    return 0 if able else 1


def ask(environment: Environment, code: str, *arguments: str) -> Tuple[bool, str]:
    """Run a line of Python in .venv, in a process of its own: (it worked, the last line that it said)."""
    command = [str(environment.python), "-c", code, *arguments]
    try:
        done = subprocess.run(
            command, cwd=str(environment.project), capture_output=True, text=True, timeout=120, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return False, str(error)
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    return done.returncode == 0, lines[-1] if lines else ""


def check_python(environment: Environment) -> Finding:
    found = f"{platform.python_version()} on {platform.platform()}"
    if is_suitable(platform.python_version()) or is_suitable(environment.python_version()):
        return Finding("ok", "Python", found)
    try:
        return Finding("ok", "Python", f"{found}; .venv will be made with {find_python()}")
    except Problem as problem:
        return Finding("missing", "Python", found, str(problem))


def check_venv(environment: Environment) -> Finding:
    stamped = environment.stamped()
    current = [layer for layer, lock_hash in stamped.items() if lock_hash == environment.lock_hash(layer)]
    stale = [layer for layer in stamped if layer not in current]
    mend = "python3 start.py (add --light to leave out torch and Chatterbox)"
    if not current:
        state = f"{', '.join(stale)}: unfinished or older than the lock" if stale else "nothing installed yet"
        return Finding("missing", ".venv", state, mend)
    held = f"Python {environment.python_version()}, layers as locked: {', '.join(current)}"
    if stale:
        update = "python3 start.py test" if stale == ["dev"] else mend
        return Finding("warning", ".venv", f"{held}; unfinished or older than the lock: {', '.join(stale)}", update)
    return Finding("ok", ".venv", held)


def check_packages(environment: Environment) -> Finding:
    pins = pins_of(environment.project / "requirements/light.in")
    code = (
        "import importlib.metadata as m, json, fastapi, numpy, psutil, pydantic, pythonjsonlogger, pyworld,"
        " sentencex, soundfile, soxr, uvicorn, yaml;"
        " print(json.dumps({d.name.lower().replace('_', '-'): d.version for d in m.distributions()}))"
    )
    works, said = ask(environment, code)
    if not works:
        return Finding("missing", "packages", said, REMAKE)
    installed = json.loads(said)
    wrong = [f"{name} is {installed.get(name)}" for name, version in pins.items() if installed.get(name) != version]
    if wrong:
        return Finding("warning", "packages", f"not as pinned: {', '.join(wrong)}", REMAKE)
    return Finding("ok", "packages", ", ".join(f"{name} {installed[name]}" for name in ("fastapi", "uvicorn", "numpy")))


def check_espeak(environment: Environment) -> Finding:
    code = "import ctypes, espeakng_loader as e; p = e.get_library_path(); ctypes.CDLL(p); print(p)"
    works, said = ask(environment, code)
    mend = f"it needs glibc 2.29, macOS 13 or Windows on x86_64, or newer; where it has that, {REMAKE}"
    return Finding("ok" if works else "missing", "espeak-ng library", said, mend)


def check_config(environment: Environment) -> Tuple[Finding, Path, int]:
    """Whether the settings can be used, with the data folder and the port that they name."""
    code = (
        "import json, os; from pathlib import Path; from config.loader import load;"
        " s = load(Path('config.yaml'), os.environ, {});"
        " print(json.dumps([str(Path.cwd() / s.storage.data_dir), s.server.port]))"
    )
    works, said = ask(environment, code)
    if not works:
        return Finding("missing", "config.yaml", said, "mend that line"), environment.project / "data", PORT
    folder, port = json.loads(said)
    return Finding("ok", "config.yaml", f"port {port}, data in {folder}"), Path(folder), port


def check_chatterbox(environment: Environment) -> List[Finding]:
    works, said = ask(environment, "import importlib.metadata as m; print(m.version('chatterbox-tts'))")
    if not works:
        mend = "python3 start.py without --light"
        return [Finding("warning", "Chatterbox", "not installed: the embedded engine speaks", mend)]
    findings = [Finding("ok", "Chatterbox", said)]
    works, said = ask(
        environment,
        "import torch; print(torch.__version__, 'CUDA' if torch.cuda.is_available() else"
        " 'MPS' if torch.backends.mps.is_available() else 'CPU only')",
    )
    findings.append(Finding("ok" if works else "warning", "torch", said, REMAKE))
    code = (
        "from main_api import settings_from, engine_parts;"
        " from engines.registry import Wish; from engines.chatterbox.files.weights import why_unavailable;"
        " print(why_unavailable(Wish.from_head(engine_parts(settings_from([])).to_head()['wish']).chatterbox) or '')"
    )
    works, problem = ask(environment, code)
    if works and not problem:
        return [*findings, Finding("ok", "weights", "in the hub's cache, or to be fetched from the hub")]
    mend = "let this machine reach the hub once, or copy its cache folder here; until then the embedded engine speaks"
    return [*findings, Finding("warning", "weights", problem, mend)]


def check_gpu(torch_uses: str) -> Finding:
    """Whether there is an NVIDIA GPU, and torch (if it is there) uses it. `torch_uses` ends with CUDA if it does."""
    said = output_of(["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"])
    if not said:
        return Finding("ok", "NVIDIA GPU", "none found (nvidia-smi is missing or fails)")
    if torch_uses and not torch_uses.endswith("CUDA"):
        mend = f"update the driver to {CUDA_13_DRIVER} or newer, or {REMAKE}"
        return Finding("warning", "NVIDIA GPU", f"{said}, but torch does not use it", mend)
    return Finding("ok", "NVIDIA GPU", said)


def check_disk(environment: Environment) -> Finding:
    free_gb = shutil.disk_usage(str(environment.project)).free / 1e9
    return Finding(
        "ok" if free_gb > 7 else "warning", "disk", f"{free_gb:.1f} GB free", "the full layer needs about 6 GB"
    )


def check_data(folder: Path) -> Finding:
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=str(there)):
            return Finding("ok", "data folder", f"{folder} can be written")
    except OSError as error:
        return Finding("missing", "data folder", str(error), "make it writable, or name another with --data-dir")


def check_port(port: int) -> Finding:
    with socket.socket() as probe:
        if not WINDOWS:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            mend = "stop the program that has it (this server, perhaps), or name another with --port"
            return Finding("warning", "port", f"{port}: {error.strerror}", mend)
    return Finding("ok", "port", f"{port} is free")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
