"""What is wrong with a file is told with its name and line."""

from __future__ import annotations

import pytest

from bot.isolation.loading import imports_of, load_class
from strategy import PluginError


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("x = 1\ny = = 2\n", "a.py:2: SyntaxError: invalid syntax"),
        ("import sys\n\nsys.exit(3)\n", "a.py:3: SystemExit: 3"),
        ("def f():\n    raise ValueError('x')\n\nf()\n", "a.py:2: ValueError: x"),
        ("import no_such_module\n", "a.py:1: ModuleNotFoundError"),
        ("", "a.py: sets no PLUGIN; end the file with `PLUGIN = YourClass`"),
        ("PLUGIN = 5\n", "a.py: PLUGIN is 5, not a subclass of strategy.Plugin"),
        (
            "from strategy import Plugin\nclass P(Plugin): name = 'P'\nPLUGIN = P\n",
            "a.py: the plugin's name 'P' must be lower case",
        ),
        (
            "from strategy import Plugin\nclass P(Plugin):\n    def on_tick(self, e): ...\n",
            "on_tick is no callback; there are on_book",
        ),
        (
            "from strategy import Plugin\nclass P(Plugin):\n    name = 'p'\n    when_gone = 'x'\nPLUGIN = P\n",
            "when_gone is 'x', not",
        ),
    ],
)
def test_a_file_that_is_no_plugin_is_told_by_file_and_line(code: str, text: str) -> None:
    with pytest.raises(PluginError) as caught:
        load_class("a.py", code.encode())

    assert text in str(caught.value)


def test_what_is_executed_are_the_bytes_that_were_given() -> None:
    code = "# -*- coding: utf-8 -*-\nfrom strategy import Plugin\n\nclass P(Plugin):\n    name = 'p'\n\nPLUGIN = P\n".encode(
        "utf-8-sig"
    )

    assert load_class("nowhere/p.py", code).name == "p"


def test_imports_are_told_with_their_lines_wherever_they_are() -> None:
    code = b"import os.path\nfrom . import x\n\ndef f():\n    from numpy import array\n    import os, no_such_module\n"

    assert [(one.module, one.line, one.found) for one in imports_of(code)] == [
        (".", 2, False),
        ("no_such_module", 6, False),
        ("numpy", 5, True),
        ("os", 1, True),
    ]


def test_the_imports_of_what_is_no_python_are_none() -> None:
    assert imports_of(b"import (") == ()
