"""Runs what a page of the documentation shows, in a directory of its own, and compares what is said.

- a `python` or `toml` block that begins with `# tasks.py` is that file (`# tasks.py, continued`: the end of it); any
  other `python` block is a program, which must end well
- a `console` block is a session: `$ command`, then what it prints. `$ python` is followed by `>>>` lines. `$ outwork
  worker` without `--drain`, and the other WORKERS, go on running; the block that has their `^C` goes on with what they
  say. `…` stands for anything, within a line or for a whole one
- ids, times, lengths of time, versions and the directory may differ
- a page that speaks of a server gets one of its own: `addresses` says where that is which the page has elsewhere
- the SERVERS go on until the end of the page. `$ curl` waits for them, and one that only looks asks until it is told
  what is expected; the ids that it was told are meant where the page shows its own

Nothing else is run, and no other language may be used but `text`, which has no `$ command`. `unrunnable` finds those
that hide from all this.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from support.programs import ended

FENCE: Final = re.compile(r"^( *)```(\S*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
FILE: Final = re.compile(r"# ([\w./]+\.(?:py|toml))(, continued)?\n")
LANGUAGES: Final = {"python", "toml", "console", "text"}
NOT_RUN: Final = ("pip install", "git clone", "cd ", "make", "rabbitmqctl")
"""Commands whose effect is there already, or that other tests run."""
WORKERS: Final = ("outwork worker", "outwork runworker", "python manage.py outwork_runworker", "dramatiq ")
"""What goes on running until its `^C`."""
SERVERS: Final = (
    *("flask run", "uvicorn ", "python serve.py", "python -m identity", "python -m aiosmtpd", "scim2-server"),
    "env PYTHONPATH=. outwork worker",
)
"""What is only ended with the page."""
CURL: Final = "curl -s --noproxy '*' --retry 60 --retry-delay 1 --retry-connrefused"
CHANGES: Final = re.compile(r" (-d|-X|--data-urlencode) ")
ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
HOME: Final = "/home/ada/shop"
PATIENCE: Final = 60.0

VARYING: Final = (
    (ID.pattern, "<id>"),
    (r"[\w.]+-\d+-[0-9a-f]{8}\b", "<worker>"),
    (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?([+-]\d\d:\d\d|Z)?", "<moment>"),
    (r"\b\d\d:\d\d:\d\d\b", "<time>"),
    (r"\b\d+(\.\d+)? ?(ms|s|m|h|d)\b( \d+(m|s|h)\b)?", "<length>"),
    (r"outwork \d+\.\d+\.\d+", "outwork <version>"),
    (r" +", " "),
    (r"-{2,}", "--"),
)


class Block(NamedTuple):
    language: str
    text: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    """The code blocks of a page."""
    text = page.read_text()
    for found in FENCE.finditer(text):
        indent, language, body = found.groups()
        if language.startswith("{"):  # a directive of MyST
            continue
        lines = "".join(line.removeprefix(indent) for line in body.splitlines(keepends=True))
        yield Block(language, lines, text.count("\n", 0, found.start()) + 1)


def unrunnable(page: Path) -> list[int]:
    """The lines of a page that begin with `$ ` and are in no `console` block: nobody would run them."""
    text = page.read_text()
    lines = {number for number, line in enumerate(text.splitlines(), 1) if line.lstrip().startswith("$ ")}
    for block in blocks(page):
        if block.language == "console":
            lines -= set(range(block.line, block.line + block.text.count("\n") + 1))
    return sorted(lines)


def plain(text: str, folder: Path) -> str:
    """The text without what may differ from one run to the next."""
    text = text.replace(str(folder), HOME)
    for pattern, word in VARYING:
        text = re.sub(pattern, word, text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def fits(expected: str, said: str, folder: Path) -> bool:
    pattern = re.escape(plain(expected, folder)).replace("…\\\n", "…").replace("…", "(?s:.*)")
    return re.fullmatch(pattern, plain(said, folder)) is not None


class Session:
    """A directory in which the blocks of a page are run in their order."""

    def __init__(self, folder: Path, addresses: Mapping[str, str] = {}, environ: Mapping[str, str] = {}) -> None:
        self.folder = folder
        self._addresses = dict(addresses)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("OUTWORK_")}
        tools = f"{Path(sys.executable).parent}:{kept['PATH']}"
        self._environment = kept | {"PATH": tools, "TZ": "UTC", "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1", **environ}
        self._code = 0
        self._said = ""
        self._worker: subprocess.Popen[bytes] | None = None
        self._started: list[subprocess.Popen[bytes]] = []
        self._log = folder.parent / f"{folder.name}.log"
        self._read = 0

    def run(self, block: Block) -> None:
        """Run a block; AssertionError says what differs."""
        assert block.language in LANGUAGES, f"a block of {block.language or 'no language'} cannot be run"
        if block.language == "console":
            self._converse(block.text)
        elif named := FILE.match(block.text):
            path = self.folder / named[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a" if named[2] else "w") as file:
                file.write(block.text[named.end() :])
        elif block.language == "python":
            self._run(sys.executable, "-c", block.text)
            assert self._code == 0, self._said

    def close(self) -> None:
        for process in self._started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    # ---- console ----------------------------------------------------------------------------------------------------

    def _here(self, command: str) -> str:
        for shown, real in self._addresses.items():
            command = command.replace(shown, real)
        return command

    def _as_shown(self, said: str) -> str:
        for shown, real in self._addresses.items():
            said = said.replace(real, shown)
        return said

    def _converse(self, text: str) -> None:
        command = ""
        expected: list[str] = []
        for line in [*text.splitlines(), "$"]:
            if not line.startswith("$"):
                expected.append(line)
                continue
            self._exchange(command, "\n".join(expected))
            command, expected = line[1:].partition("  #")[0].strip(), []

    def _exchange(self, command: str, expected: str) -> None:
        command = self._here(command)
        if not command:
            self._follow(expected)
        elif command.startswith("curl "):
            self._ask(command, expected)
        elif command.startswith((*WORKERS, *SERVERS)) and "--drain" not in command:
            self._start(command)
            self._follow(expected)
        elif command == "python":
            self._interact(expected)
        elif command.startswith("export "):
            name, _, value = command.removeprefix("export ").partition("=")
            self._environment[name] = value
        elif command == "echo $?":
            assert expected == str(self._code), f"the exit code is {self._code}"
        elif not command.startswith(NOT_RUN):
            self._run("bash", "-c", command)
            assert fits(expected, self._said, self.folder), f"$ {command}\n{self._said}\nexpected:\n{expected}"

    def _ask(self, command: str, expected: str) -> None:
        """What a server answers, and the ids in it; one that is asked to do something is asked once."""

        deadline = time.monotonic() + PATIENCE
        while True:
            self._run("bash", "-c", command.replace("curl", CURL, 1))
            assert self._code == 0, f"$ {command}: {self._code} {self._said}"
            if fits(expected, self._said, self.folder):
                break
            assert not CHANGES.search(command), f"$ {command}\n{self._said}\nexpected:\n{expected}"
            assert time.monotonic() < deadline, f"$ {command}\n{self._said}\nexpected:\n{expected}"
            time.sleep(0.05)
        if len(shown := ID.findall(expected)) == len(real := ID.findall(self._said)):
            self._addresses |= zip(shown, real, strict=True)

    def _run(self, *command: str) -> None:
        self._code, said = ended(command, self.folder, self._environment)
        self._said = self._as_shown(said)

    # ---- a worker that goes on --------------------------------------------------------------------------------------

    def _start(self, command: str) -> None:
        with self._log.open("ab") as log:
            self._read = log.tell()
            self._worker = subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )
        self._started.append(self._worker)

    def _follow(self, expected: str) -> None:
        """What the worker says, up to its `^C` and after it."""
        before, stop, after = expected.partition("^C")
        self._await(before)
        if stop:
            assert self._worker is not None, "no worker is running"
            self._worker.send_signal(signal.SIGINT)
            self._code = self._worker.wait(PATIENCE)
            self._await(after)

    def _await(self, expected: str) -> None:
        if not expected.strip():
            return
        deadline = time.monotonic() + PATIENCE
        while True:
            new = self._log.read_bytes()[self._read :]
            said = self._as_shown(new.decode())
            if said.endswith("\n") and fits(expected, said, self.folder):
                self._read += len(new)
                return
            assert time.monotonic() < deadline, f"the worker said:\n{said}\nexpected:\n{expected}"
            with suppress(subprocess.TimeoutExpired):
                assert self._worker is not None, "no worker is running"
                self._worker.wait(0.05)

    # ---- python -----------------------------------------------------------------------------------------------------

    def _interact(self, text: str) -> None:
        """A session of the interpreter: every `>>>` and what it prints."""
        statements = re.split(r"^>>> ?", text, flags=re.MULTILINE)[1:]
        sources: list[str] = []
        expected: list[str] = []
        for statement in statements:
            first, *rest = statement.splitlines()
            more = [line for line in rest if line.startswith("...")]
            sources.append("\n".join([first, *(line[4:] for line in more)]))
            expected.append("\n".join(rest[len(more) :]))
        program = INTERPRETER.replace("SOURCES", repr(sources))
        self._run(sys.executable, "-c", program)
        answers = self._said.split("\0")[1:]
        for source, wanted, said in zip(sources, expected, answers, strict=True):
            assert fits(wanted, said, self.folder), f">>> {source}\n{said}\nexpected:\n{wanted}"


INTERPRETER: Final = """
import code, sys
sys.path.insert(0, "")
sys.stderr = sys.stdout
console = code.InteractiveConsole()
for source in SOURCES:
    print("\\0", end="")
    if console.push(source) and "\\n" in source: console.push("")
"""
