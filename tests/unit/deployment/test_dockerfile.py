"""The images: pinned, without a compiler, not root, with nothing in them that nobody asked for."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.compose_file import ROOT, services
from tests.support.dockerfile import Instruction, context_files, stages

DOCKERFILES = [ROOT / "Dockerfile", ROOT / "redis/Dockerfile", ROOT / "postgres/Dockerfile"]
COMPILERS = re.compile(r"\b(gcc|g\+\+|build-essential|make|cargo|rustc|clang)\b")

every_dockerfile = pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: str(path.relative_to(ROOT)))


def only(instructions: list[Instruction], name: str) -> str:
    found = [one.text for one in instructions if one.name == name]
    assert len(found) == 1, f"{name}: {found}"
    return found[0]


def commands(instructions: list[Instruction]) -> str:
    return "\n".join(one.text for one in instructions if one.name == "RUN")


@every_dockerfile
def test_bases_are_pinned_by_digest(path: Path) -> None:
    for stage in stages(path):
        assert re.fullmatch(r"[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}( AS \w+)?", stage[0].text)


def test_both_stages_have_the_same_base() -> None:
    build, final = stages(ROOT / "Dockerfile")

    assert build[0].text.removesuffix(" AS build") == final[0].text, "the virtual environment fits its own interpreter only"


@every_dockerfile
def test_the_last_stage_compiles_and_fetches_nothing(path: Path) -> None:
    final = stages(path)[-1]

    assert not COMPILERS.search(commands(final))
    assert not re.search(r"\b(apt-get|apk|pip|curl|wget|git)\b", commands(final))
    assert not [one for one in final if one.name == "ADD"]


@every_dockerfile
def test_an_image_is_not_root_and_says_how_it_is(path: Path) -> None:
    final = stages(path)[-1]
    names = [one.name for one in final]

    assert only(final, "USER").partition(":")[0] not in ("", "0", "root")
    assert "RUN" not in names[names.index("USER") :], "what runs later would run as another user"
    assert "--interval=" in only(final, "HEALTHCHECK")
    for one in final:
        if one.name in ("CMD", "ENTRYPOINT"):
            assert json.loads(one.text), "as a list: no shell stands between the signal and the process"


def test_libraries_come_as_wheels_by_hash() -> None:
    installs = [part for part in re.split("&&|\n", commands(stages(ROOT / "Dockerfile")[0])) if " install " in part]

    assert len(installs) == 3
    for part in installs:
        ours = "--no-index" in part  # the wheel that the line before made
        assert ours or {"--require-hashes", "--only-binary", ":all:"} <= set(part.split())


def test_the_version_of_python_is_one_that_is_tested() -> None:
    found = re.match(r"python:(\d+\.\d+)\.", stages(ROOT / "Dockerfile")[0][0].text)
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())

    assert found is not None
    assert found[1] in workflow["jobs"]["test"]["strategy"]["matrix"]["python"]


def test_the_context_is_what_the_package_is_made_of_and_nothing_else() -> None:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {name.removesuffix("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    folders = {name for name in context_files() if (ROOT / name).is_dir()}
    files = {*context_files()} - folders

    assert folders == packages
    assert files == {"LICENSE", "README.md", "pyproject.toml", "requirements.lock", "requirements-dev.lock", "config/*.yaml"}
    assert not [name for name in context_files() if re.search(r"secret|\.env|\.git|backup", name)]


def test_what_make_env_makes_never_reaches_git() -> None:
    for path in (".env", "secrets/redis_url_bot", "backups/x.tar.gz"):
        assert subprocess.run(["git", "check-ignore", "-q", path], cwd=ROOT, check=False).returncode == 0, path


def test_the_image_and_the_file_ask_the_same_question() -> None:
    how, _, question = only(stages(ROOT / "Dockerfile")[-1], "HEALTHCHECK").partition(" CMD ")

    assert services()["bot"]["healthcheck"]["test"] == ["CMD", *json.loads(question)]
    assert "--timeout=5s" in how
