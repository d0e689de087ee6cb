"""Service files, read as their supervisors read them: which command line is started, and how it is ended.

A key that these readers do not know is an error: one that is misspelled is ignored by most supervisors.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Mapping
from configparser import ConfigParser
from pathlib import Path
from signal import Signals
from typing import Any, Final, NamedTuple

import yaml

SHELLS: Final = {"sh", "bash", "dash", "ash"}
OPENRC: Final = (
    *("supervisor", "command", "command_args", "command_user", "directory", "retry", "respawn_delay", "respawn_max"),
    "description",
    "extra_started_commands",
)
DOCKER_STOP: Final = 10.0
"""Seconds that `docker stop` waits where neither it nor the container says otherwise."""


class Service(NamedTuple):
    """What is started, with which variables, and the seconds between the signal that ends it and a SIGKILL."""

    words: list[str]
    patience: float
    stop: Signals = Signals.SIGTERM
    environ: Mapping[str, str] = {}


def only(section: Mapping[str, Any], *known: str) -> Mapping[str, Any]:
    """The section, which has no other keys than these."""
    assert set(section) <= set(known), f"{set(section) - set(known)} is not known here"
    return section


def exec_form(words: object) -> list[str]:
    """A command line that is a list of words; no shell is between the supervisor and the worker."""
    assert isinstance(words, list), f"{words!r} is no list of words"
    assert words
    assert all(isinstance(word, str) for word in words), words
    assert Path(words[0]).name not in SHELLS, f"a shell keeps the signal to itself: {words}"
    return words


def sections(text: str) -> dict[str, dict[str, str]]:
    """The sections of an INI file; nothing is in it twice."""
    parser = ConfigParser(strict=True, interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    return {name: dict(parser[name]) for name in parser.sections()}


def variables(path: Path) -> dict[str, str]:
    """The variables of a file with lines of NAME=value."""
    return dict(line.split("=", 1) for line in path.read_text().splitlines())


# ---- services --------------------------------------------------------------------------------------------------------


def systemd(text: str) -> Service:
    """A unit whose process tells that it is ready. `KillMode=mixed`: only the first process is signalled."""
    service = only(sections(text)["Service"], *SYSTEMD)
    assert (service["Type"], service["NotifyAccess"], service["KillMode"]) == ("notify", "main", "mixed")
    assert service["Restart"] == "always"
    environ = {}
    if file := service.get("EnvironmentFile"):
        environ = variables(Path(file.removeprefix("-")))
    return Service(
        shlex.split(service["ExecStart"]),
        float(service["TimeoutStopSec"]),
        Signals[service.get("KillSignal", "SIGTERM")],
        environ,
    )


SYSTEMD: Final = (
    *("Type", "NotifyAccess", "User", "WorkingDirectory", "EnvironmentFile", "ExecStart", "ExecReload"),
    *("KillMode", "KillSignal", "TimeoutStopSec", "WatchdogSec", "Restart", "RestartSec", "RestartPreventExitStatus"),
    *("NoNewPrivileges", "ProtectSystem", "ProtectHome", "PrivateTmp", "StateDirectory", "RestrictAddressFamilies"),
)


def openrc(text: str) -> Service:
    """An init script, run by a shell up to its functions, and `depend` with it."""
    assert set(re.findall(r"^(\w+)=", text, re.MULTILINE)) <= set(OPENRC)
    tell = "".join(f"\nprintf '%s\\0' \"${name}\"" for name in OPENRC)
    script = f"set -eu\nneed() {{ :; }}\nuse() {{ :; }}\n{text}\ndepend{tell}"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    said = dict(zip(OPENRC, done.stdout.split("\0"), strict=False))
    assert said["supervisor"] == "supervise-daemon"
    assert (int(said["respawn_delay"]), int(said["respawn_max"])) == (2, 0), "0 is: for ever"
    assert all(f"{function}()" in text for function in said["extra_started_commands"].split())
    stop, seconds, *_ = said["retry"].split("/")
    return Service([said["command"], *shlex.split(said["command_args"])], float(seconds), Signals[stop])


def supervisord(text: str) -> Service:
    """A file with one program."""
    [(title, program)] = sections(text).items()
    assert title == "program:shop-worker"
    only(
        program,
        *("command", "directory", "user", "autorestart", "stopsignal", "stopwaitsecs", "stopasgroup", "killasgroup"),
        *("redirect_stderr", "stdout_logfile"),
    )
    assert program["stopasgroup"] == "false", "the supervisor itself ends its processes"
    return Service(
        shlex.split(program["command"]), float(program["stopwaitsecs"]), Signals[f"SIG{program['stopsignal']}"]
    )


# ---- containers ------------------------------------------------------------------------------------------------------


def dockerfile(text: str) -> Service:
    """The command of an image, which has to be in exec form."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    said = [(line.partition(" ")[0], line.partition(" ")[2]) for line in lines]
    assert said[0][0] == "FROM"
    commands = only(dict(said), "FROM", "WORKDIR", "COPY", "RUN", "USER", "STOPSIGNAL", "CMD")
    assert len(commands) == len(said), "an instruction is there twice"
    assert commands["CMD"].startswith("["), f"the shell form: {commands['CMD']}"
    return Service(exec_form(json.loads(commands["CMD"])), DOCKER_STOP, Signals[commands["STOPSIGNAL"]])


def compose(text: str) -> dict[str, Service]:
    """The services of a Compose file. A command that is a text is split into words; Compose asks no shell."""
    found = {}
    for name, service in only(yaml.safe_load(text), "services")["services"].items():
        only(service, "build", "image", "command", "environment", "stop_grace_period", "restart")
        assert "build" in service or "image" in service
        assert service.get("restart", "always") in ("always", "unless-stopped")
        command = service["command"]
        words = exec_form(shlex.split(command) if isinstance(command, str) else command)
        seconds = re.fullmatch(r"(\d+)s", service.get("stop_grace_period", f"{DOCKER_STOP:.0f}s"))
        assert seconds, service
        environ = service.get("environment", {})
        assert all(isinstance(value, str) for value in environ.values()), environ
        found[name] = Service(words, float(seconds[1]), environ=environ)
    return found


def kubernetes(text: str) -> Service:
    """A Deployment with one container. It has no probes: one that is added has to be run by a test."""
    deployment = only(yaml.safe_load(text), "apiVersion", "kind", "metadata", "spec")
    assert (deployment["apiVersion"], deployment["kind"]) == ("apps/v1", "Deployment")
    only(deployment["metadata"], "name")
    spec = only(deployment["spec"], "replicas", "selector", "template")
    assert isinstance(spec["replicas"], int)
    template = only(spec["template"], "metadata", "spec")
    assert only(spec["selector"], "matchLabels")["matchLabels"] == template["metadata"]["labels"]
    pod = only(template["spec"], "terminationGracePeriodSeconds", "containers")
    [container] = pod["containers"]
    only(container, "name", "image", "command", "envFrom")
    for source in container["envFrom"]:
        assert set(only(source, "secretRef")["secretRef"]) == {"name"}
    return Service(exec_form(container["command"]), float(pod["terminationGracePeriodSeconds"]))
