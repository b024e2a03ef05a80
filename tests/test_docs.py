"""The pages keep up with the code: every choice has its row, the commands are those that CI runs."""

import re
from pathlib import Path

import pytest

import curtensor
from curtensor.cur import CORES
from curtensor.selection import ENTRY_RULES, SELECTION_RULES
from curtensor.sketching import SKETCHES
from curtensor.svd import SVD_METHODS

ROOT = Path(__file__).parent.parent
CHOOSING = (ROOT / "docs" / "choosing.md").read_text()
README = (ROOT / "README.md").read_text()

CHOICES = {"Rules": SELECTION_RULES | ENTRY_RULES, "Cores": CORES, "Sketches": SKETCHES, "Randomized SVD": SVD_METHODS}


@pytest.mark.parametrize("section", CHOICES)
def test_each_choice_has_one_full_row(section):
    text = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", CHOOSING, re.MULTILINE | re.DOTALL).group(1)
    head, _, *rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    assert [row[0].strip().strip("`") for row in rows] == list(CHOICES[section])
    for row in rows:
        assert len(row) == len(head) and all(cell.strip() for cell in row), row


def commands(text):
    """The shell commands of a page, each as one line."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    return [command for block in blocks for command in block.replace("\\\n", "").splitlines()]


def test_ci_runs_the_readmes_test_command():
    tests = [command for command in commands(README) if "pytest" in command]
    assert len(tests) == 1
    assert f"{tests[0]} || exit" in (ROOT / ".ci" / "run").read_text().splitlines()  # `set -e` ignores what && joins


def test_test_command_runs_the_slow_tests_under_the_constraints():
    (command,) = [command for command in commands(README) if "pytest" in command]
    assert '-m "slow or not slow"' in command and "-c constraints.txt" in command


def test_workflow_calls_the_same_script():
    assert "run: .ci/run" in (ROOT / ".github" / "workflows" / "ci.yml").read_text()


def test_readmes_map_names_every_module():
    modules = {path.name for path in Path(curtensor.__file__).parent.glob("*.py")} - {"__init__.py"}
    assert modules == set(re.findall(r"^\| `(\w+\.py)`", README, re.MULTILINE))


def test_shipped_data_is_packaged_and_its_readme_names_each_file():
    folder = Path(curtensor.__file__).parent / "data"
    text = (folder / "README.md").read_text()
    for path in folder.iterdir():
        assert path.name == "README.md" or f"`{path.name}`" in text
