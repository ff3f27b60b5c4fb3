"""`tradebot plugin new`: a strategy file and its test, made of a template."""

from __future__ import annotations

import keyword
import re
import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from tradebot.exit_codes import CommandError, ExitCode
from tradebot.plugin_files import plugin_files

TEMPLATES = files("tradebot.plugin_templates")
TEST_SUFFIX = "_test.py"
NAME = re.compile("[a-z][a-z0-9_]{0,31}")
CLASS, OWN_NAME = "MyStrategy", "my_strategy"


@dataclass(frozen=True, slots=True)
class Written:
    """The files that were made; `package` is the marker of a new subfolder, None when none was needed."""

    plugin: Path
    test: Path
    package: Path | None


def template_names() -> list[str]:
    """The templates that there are."""
    names = (entry.name for entry in TEMPLATES.iterdir() if entry.name.endswith(".py"))
    return sorted(name.removesuffix(".py") for name in names if not name.startswith("_") and not name.endswith(TEST_SUFFIX))


def write_plugin(plugins: Path, name: str, template: str, folder: Path | None = None) -> Written:
    """Write the strategy `name` into `folder` (below `plugins`, which is the default), and its test.

    In a checkout the test goes to tests/unit/plugins; elsewhere beside the strategy, with an underscore, so that the bot passes it
    over. Raises CommandError for a name that is bad or taken, an unknown template, or a folder where the bot would not look.
    """
    _check_name(plugins, name)
    if template not in template_names():
        raise CommandError(f"no template {template!r}; there are {', '.join(template_names())}", ExitCode.NOT_FOUND)
    folder = _folder(plugins, folder)
    package = folder / "__init__.py" if folder != plugins and (plugins / "__init__.py").exists() else None
    tests = plugins.parent / "tests" / "unit" / "plugins"
    in_checkout = plugins.name == "plugins" and tests.parent.is_dir()
    plugin = folder / f"{name}.py"
    test = tests / f"test_{name}.py" if in_checkout else folder / f"_test_{name}.py"
    for path in (plugin, test):
        if path.exists():
            raise CommandError(f"{path} exists already: choose another name", ExitCode.NOT_FOUND)
    text, test_text = (TEMPLATES.joinpath(template + suffix).read_text(encoding="utf-8") for suffix in (".py", TEST_SUFFIX))
    class_name = _class_name(name, text + test_text)
    test_text = _with_import(test_text, template, plugin.relative_to(plugins.parent) if in_checkout else None, f"{name}.py")
    made = package is not None and not package.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        test.parent.mkdir(parents=True, exist_ok=True)
        if package is not None and made:
            package.write_text('"""Strategies of one\'s own."""\n', encoding="utf-8")
        test.write_text(_named(test_text, name, class_name), encoding="utf-8")
        plugin.write_text(_named(text, name, class_name), encoding="utf-8")  # last: a running bot takes it up at once
    except OSError as error:
        raise CommandError(f"could not be written: {error}") from None
    return Written(plugin, test, package if made else None)


def _check_name(plugins: Path, name: str) -> None:
    if not NAME.fullmatch(name) or keyword.iskeyword(name):
        rule = "lower case letters, digits and underscores, first a letter, at most 32, no word of Python's"
        raise CommandError(f"{name!r} is no name for a plugin: {rule}", ExitCode.NOT_FOUND)
    if name in sys.stdlib_module_names:
        raise CommandError(f"{name!r} is a module of Python's standard library: choose another name", ExitCode.NOT_FOUND)
    for known in plugin_files(plugins):
        if name in (known.name, Path(known.path).stem):
            raise CommandError(f"the name {name!r} is taken by {plugins / known.path}: choose another", ExitCode.NOT_FOUND)


def _folder(plugins: Path, folder: Path | None) -> Path:
    """The absolute folder to write to, which must be one that the bot looks into."""
    if folder is None:
        return plugins
    wanted, root = folder.resolve(), plugins.resolve()
    if not wanted.is_relative_to(root):
        raise CommandError(f"{folder} is not below {plugins}, where the bot looks for plugins", ExitCode.NOT_FOUND)
    parts = wanted.relative_to(root).parts
    if not all(NAME.fullmatch(part) for part in parts):
        rule = "folders are named with lower case letters, digits and underscores, first a letter"
        raise CommandError(f"{folder}: {rule}", ExitCode.NOT_FOUND)
    return plugins.joinpath(*parts)


def _class_name(name: str, text: str) -> str:
    """The name in capitals, which must not be that of something that the template uses."""
    capitals = "".join(part.capitalize() for part in name.split("_"))
    return f"{capitals}Strategy" if capitals in re.findall(r"\w+", text) else capitals


def _named(text: str, name: str, class_name: str) -> str:
    return text.replace(CLASS, class_name).replace(OWN_NAME, name)


def _with_import(text: str, template: str, importable: Path | None, file_name: str) -> str:
    """The test with its own way to the class: an import in a checkout, else the file beside it is loaded."""
    line = f"from tradebot.plugin_templates.{template} import {CLASS}\n"
    if importable is not None:
        module = ".".join(importable.with_suffix("").parts)
        return text.replace(line, "").replace("from strategy import", f"from {module} import {CLASS}\nfrom strategy import", 1)
    annotations, kit = "from __future__ import annotations\n\n", "from strategy.testing import "
    names = text.partition(kit)[2].partition("\n")[0]
    more = kit + ", ".join(sorted([*names.split(", "), "load"]))
    return (
        text.replace(annotations, f"{annotations}from pathlib import Path\n\n", 1)
        .replace(kit + names, more, 1)
        .replace(line, f'\n{CLASS} = load(Path(__file__).with_name("{file_name}"))\n', 1)
    )
