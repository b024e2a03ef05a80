"""What a type checker sees of the public names."""

import ast
import doctest
import re
import subprocess
import sys
from pathlib import Path

import pytest

import curtensor

HERE = Path(__file__).parent
pytest.importorskip("mypy")


# Of typed_calls.py all is asked; of the pages that calls are right, though the names in them are used again.
STRICT = ["--strict", "--allow-untyped-calls", "--disable-error-code=type-arg"]
LOOSE = ["--check-untyped-defs", "--allow-redefinition-new", "--local-partial-types"]
# A gradient of PyTorch, and names out of a file, may be None; pages do not ask.
LOOSE += ["--disable-error-code=union-attr", "--disable-error-code=index"]


def complaints(files, options, cache):
    """What mypy says of files, with its exit status."""
    options = ["--ignore-missing-imports", "--follow-imports=silent", "--cache-dir", str(cache), *options]
    command = [sys.executable, "-m", "mypy", "--config-file=", *options, *map(str, files)]
    return subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True)


def examples(page):
    """The code of a page: its doctests, and blocks that are code alone."""
    text = page.read_text()
    plain = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if ">>> " not in block]
    return "".join([*(part.source for part in doctest.DocTestParser().get_examples(text)), *plain])


@pytest.mark.slow
def test_right_calls_are_accepted_and_wrong_ones_are_not(tmp_path):
    run = complaints([HERE / "typed_calls.py"], STRICT, tmp_path)
    assert run.returncode == 0, run.stdout


@pytest.mark.slow
def test_examples_of_the_pages_are_accepted(tmp_path):
    root = HERE.parent
    pages = {page: examples(page) for page in [root / "README.md", *root.glob("docs/*.md")] if page.stem != "adapters"}
    files = [tmp_path / f"page_{page.stem}.py" for page, text in pages.items() if text]
    for file, text in zip(files, filter(None, pages.values()), strict=True):
        file.write_text(text)
    assert len(files) > 8
    gallery = [path for path in root.glob("docs/gallery/*.py") if path.stem != "plot_adapters"]
    run = complaints([*files, *gallery], LOOSE, tmp_path / "cache")
    assert run.returncode == 0, run.stdout


@pytest.mark.slow
def test_a_wrong_example_is_not_accepted(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(">>> import curtensor as ct\n>>> ct.leverage_scores([[1.0]], k=1)\n")
    file = tmp_path / "page.py"
    file.write_text(examples(page))
    assert 'Unexpected keyword argument "k" for "leverage_scores"' in complaints([file], LOOSE, tmp_path).stdout


def test_checkers_see_every_public_name_and_no_other():
    tree = ast.parse(Path(curtensor.__file__).read_text())
    seen = next(node for node in tree.body if isinstance(node, ast.If) and node.orelse == []).body
    names = {alias.asname: node.module for node in seen for alias in node.names}
    homes = {name: f"curtensor.{home}" for name, home in curtensor._HOMES.items()}
    modules = {name for name, home in names.items() if home == "curtensor"}
    assert {name: home for name, home in names.items() if name not in modules} == homes
    for name in modules:
        assert getattr(curtensor, name).__name__ == f"curtensor.{name}"
