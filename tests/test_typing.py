"""What a type checker sees of the public names."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import curtensor

HERE = Path(__file__).parent
pytest.importorskip("mypy")


@pytest.mark.slow
def test_right_calls_are_accepted_and_wrong_ones_are_not(tmp_path):
    options = ["--strict", "--ignore-missing-imports", "--follow-imports=silent", "--allow-untyped-calls"]
    options += ["--cache-dir", str(tmp_path), "--disable-error-code=type-arg"]
    command = [sys.executable, "-m", "mypy", "--config-file=", *options, str(HERE / "typed_calls.py")]
    run = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


def test_checkers_see_every_public_name_and_no_other():
    tree = ast.parse(Path(curtensor.__file__).read_text())
    seen = next(node for node in tree.body if isinstance(node, ast.If) and node.orelse == []).body
    names = {alias.asname: node.module for node in seen for alias in node.names}
    homes = {name: f"curtensor.{home}" for name, home in curtensor._HOMES.items()}
    modules = {name for name, home in names.items() if home == "curtensor"}
    assert {name: home for name, home in names.items() if name not in modules} == homes
    for name in modules:
        assert getattr(curtensor, name).__name__ == f"curtensor.{name}"
