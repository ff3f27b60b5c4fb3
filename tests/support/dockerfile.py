"""A Dockerfile taken apart, and its build stage carried out on this machine without an engine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.compose_file import ROOT

BUILD_S = 600


@dataclass(frozen=True, slots=True)
class Instruction:
    name: str
    text: str


def stages(path: Path) -> list[list[Instruction]]:
    """The instructions of each stage, continued lines joined, comments left out; each stage begins with FROM."""
    lines = [line for line in path.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    found: list[list[Instruction]] = []
    for line in joined.splitlines():
        name, _, text = line.partition(" ")
        if name == "FROM":
            found.append([])
        assert found or name == "ARG", f"{path}: {name} before FROM"
        if found:
            found[-1].append(Instruction(name, text.strip()))
    return found


def context_files() -> list[str]:
    """What the build may see: the entries that .dockerignore lets in, of a file that first shuts everything out."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*", "everything is out unless it is named"
    return [line.removeprefix("!") for line in lines if line.startswith("!")]


def interpreter() -> str:
    """The Python of our image where this machine has it, otherwise the one that runs the tests."""
    found = re.match(r"python:(\d+\.\d+)\.", stages(ROOT / "Dockerfile")[0][0].text)
    assert found is not None
    python = shutil.which(f"python{found[1]}")
    # A version manager has a name for every Python it knows, and refuses those that are not chosen.
    works = python is not None and subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0
    return python if python is not None and works else sys.executable


def build_virtual_environment(folder: Path, python: str) -> Path:
    """Carry out the first stage of our Dockerfile in `folder`, with this Python; returns the virtual environment.

    The commands are the Dockerfile's own; only the absolute folders and the interpreter's name are replaced.
    """
    places = {
        "/opt/venv": folder / "venv",
        "/opt/build": folder / "build",
        "/opt/wheels": folder / "wheels",
        "/src": folder / "src",
    }
    source = places["/src"]
    source.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL"))}
    for instruction in stages(ROOT / "Dockerfile")[0]:
        if instruction.name == "ENV":
            environment |= dict(pair.split("=", 1) for pair in instruction.text.split())
        elif instruction.name == "COPY":
            _copy(instruction.text.split(), source)
        elif instruction.name == "RUN":
            _run(_here(instruction.text, places, python), source, environment)
    return places["/opt/venv"]


def _here(command: str, places: Mapping[str, Path], python: str) -> str:
    for place, path in places.items():
        command = command.replace(place, str(path))
    command = re.sub(r"(^|&& )python ", rf"\1{python} ", command)
    return re.sub(r"(^|&& )pip ", rf"\1{python} -m pip ", command)


def _copy(words: Sequence[str], target: Path) -> None:
    sources = context_files() if words == [".", "."] else words[:-1]
    for pattern in sources:
        for path in ROOT.glob(pattern):
            place = target / path.relative_to(ROOT)
            place.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                shutil.copytree(path, place, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(path, place)


def _run(command: str, folder: Path, environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        ["bash", "-ec", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=BUILD_S, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stderr[-2000:]}"
