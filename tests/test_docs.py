"""The pages keep up with the code: every choice has its row, the commands are those that CI runs."""

import csv
import itertools
import re
import statistics
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import curtensor
from curtensor import adapters
from curtensor.cur import CORES
from curtensor.selection import ENTRY_RULES, SELECTION_RULES
from curtensor.sketching import SKETCHES
from curtensor.svd import SVD_METHODS
from curtensor.tensors import TENSOR_METHODS
from curtensor.tensors.decomposition import TENSOR_CORES
from curtensor.tensors.tubal import TUBAL_CORES

ROOT = Path(__file__).parent.parent
CHOOSING = (ROOT / "docs" / "choosing.md").read_text()
README = (ROOT / "README.md").read_text()

CHOICES = {
    "Rules": SELECTION_RULES | ENTRY_RULES,
    "Cores": CORES,
    "Sketches": SKETCHES,
    "Randomized SVD": SVD_METHODS,
    "Tubal cores": TUBAL_CORES,
    "Tensor methods": TENSOR_METHODS,
    "Tensor cores": TENSOR_CORES,
}


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


def test_ci_builds_the_pages_by_the_readmes_command():
    (build,) = [command for command in commands(README) if "sphinx-build" in command]
    assert "-c constraints.txt" in build and " -W " in build
    assert f"{build} || exit" in (ROOT / ".ci" / "run").read_text().splitlines()


def test_api_page_names_every_public_name():
    names = re.findall(r"^   (\w+)$", (ROOT / "docs" / "api.rst").read_text(), re.MULTILINE)
    assert len(set(names)) == len(names)
    assert set(curtensor.__all__) | set(adapters.__all__) <= set(names)


def test_references_of_the_docstrings_are_on_the_page():
    page = " ".join((ROOT / "docs" / "references.md").read_text().split())
    sources = " ".join(" ".join(path.read_text().split()) for path in Path(curtensor.__file__).parent.rglob("*.py"))
    titles = re.findall(r'\.\. \[\d+\] [^"\[\]]*"([^"]+)"', sources)
    assert len(titles) > 20
    assert [title for title in titles if title not in page] == []


def test_test_command_runs_the_slow_tests_under_the_constraints():
    (command,) = [command for command in commands(README) if "pytest" in command]
    assert '-m "slow or not slow"' in command and "-c constraints.txt" in command


def requirements():
    """Every requirement of the package and its extras, by the package's normalised name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    found = [Requirement(text) for text in texts]
    return [(canonicalize_name(need.name), need.specifier) for need in found if need.name != "curtensor"]


def test_constraints_name_one_release_of_all_that_is_required():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pins = dict(line.split("==") for line in lines)
    assert len(pins) == len(lines) and lines == sorted(lines)
    assert [name for name, specifier in requirements() if name not in pins or pins[name] not in specifier] == []


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


def table_rows(text, start):
    """Cells of the rows of the table that follows a text."""
    lines = text[text.index(start) :].splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("|"))
    rows = list(itertools.takewhile(lambda line: line.startswith("|"), lines[first:]))
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


@pytest.mark.parametrize(
    "name, key, start",
    [
        ("sst2", "method", "## Accuracy on SST-2"),
        ("sst2_before", "method", "### With 2,000 sentences"),
        ("ablation", "variant", "## Starting points"),
    ],
)
def test_adapter_figures_are_those_of_the_runs(name, key, start):
    with (ROOT / "docs" / "results" / f"{name}.csv").open() as file:
        runs = list(csv.DictReader(file))
    rows = table_rows((ROOT / "docs" / "adapters.md").read_text(), start)
    assert {row[0].strip("`") for row in rows} == {run[key] for run in runs}
    for method, trained, mean, spread, seeds, *_ in rows:
        own = [run for run in runs if run[key] == method.strip("`")]
        accuracies = [100 * float(run["accuracy"]) for run in own]
        assert {int(run["trained"]) for run in own} == {int(trained.replace(",", ""))}
        assert len({run["seed"] for run in own}) == len(own) == int(seeds)
        assert mean == f"{statistics.mean(accuracies):.2f}"
        assert spread == (f"{statistics.stdev(accuracies):.2f}" if len(own) > 1 else "-")
