"""Who takes part: what the files in `contestants/` declare, read without importing them, and each peer's own virtual
environment."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

HERE: Final = Path(__file__).parent
FOLDER: Final = HERE / "contestants"
ENVIRONMENTS: Final = Path(os.environ.get("BENCH_PEERS_VENVS") or HERE.parents[1] / ".venv-peers")

Service = Literal["redis", "postgresql", "rabbitmq", "sqlite"]
Acks = Literal["after", "before"]
DECLARED: Final = ("PEER", "BROKER", "REQUIREMENTS", "SETTINGS", "ACKS", "BULK", "WORKER")


@dataclass(frozen=True, slots=True)
class Contestant:
    """One peer with one broker and one choice of settings."""

    name: str
    peer: str
    broker: Service
    requirements: tuple[str, ...]
    settings: str
    acks: Acks
    """Whether a job is acknowledged after it ran, or before: then a killed worker loses it."""
    bulk: bool
    worker: tuple[str, ...]
    """The command of its worker; {python}, {bin}, {produce}, {name} and {url} stand for what their names say."""


def declared(name: str, source: str) -> Contestant:
    """What a contestant's source declares at its top, as plain data; ValueError where something is missing or wrong."""
    found: dict[str, Any] = {}
    for node in ast.parse(source).body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        if isinstance(target, ast.Name) and target.id in DECLARED:
            found[target.id] = ast.literal_eval(node.value)
    if missing := [one for one in DECLARED if one not in found]:
        raise ValueError(f"{name} does not declare {', '.join(missing)}")
    one = Contestant(
        name=name,
        peer=found["PEER"],
        broker=found["BROKER"],
        requirements=tuple(found["REQUIREMENTS"]),
        settings=found["SETTINGS"],
        acks=found["ACKS"],
        bulk=found["BULK"],
        worker=tuple(found["WORKER"]),
    )
    if one.broker not in get_args(Service) or one.acks not in get_args(Acks):
        raise ValueError(f"{name} declares BROKER {one.broker!r}, ACKS {one.acks!r}")
    return one


def contestants() -> dict[str, Contestant]:
    """All of them, by name."""
    files = sorted(FOLDER.glob("[a-z]*.py"))
    return {path.stem: declared(path.stem, path.read_text()) for path in files}


class Home:
    """The virtual environment of a peer. One without requirements is at home in that of the harness."""

    def __init__(self, peer: str, requirements: tuple[str, ...]) -> None:
        self.requirements = requirements
        self.folder = ENVIRONMENTS / peer.lower() if requirements else Path(sys.prefix)
        self.python = self.folder / "bin" / "python" if requirements else Path(sys.executable)
        self.bin = self.python.parent

    def make(self, *, upgrade: bool = False) -> None:
        """Install the newest of what is required, unless that was done before."""
        note = self.folder / "installed.json"
        wanted = json.dumps(sorted(self.requirements))
        if not self.requirements or (not upgrade and note.exists() and note.read_text() == wanted):
            return
        if not self.python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(self.folder)], check=True, timeout=120)
        pip = [str(self.python), "-m", "pip", "install", "--quiet", "--upgrade", "--disable-pip-version-check"]
        subprocess.run([*pip, *self.requirements], check=True, timeout=600)
        note.write_text(wanted)

    def versions(self) -> dict[str, str]:
        """What is installed of the packages that are required by name; Outwork itself where nothing is."""
        names = [one.split("[")[0].split(">")[0].split("=")[0].strip() for one in self.requirements] or ["outwork"]
        code = "import json, sys, importlib.metadata as m; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"
        said = subprocess.run([self.python, "-c", code, *names], check=True, capture_output=True, text=True, timeout=60)
        versions: dict[str, str] = json.loads(said.stdout)
        return versions


def homes(chosen: list[Contestant]) -> dict[str, Home]:
    """One for each peer, with what all its contestants require."""
    required: dict[str, set[str]] = {}
    for one in contestants().values():
        required.setdefault(one.peer, set()).update(one.requirements)
    return {peer: Home(peer, tuple(sorted(required[peer]))) for peer in {one.peer for one in chosen}}
