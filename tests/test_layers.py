"""The house of docs/design.md: who may import whom, and what `import curtensor` loads."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import curtensor
from curtensor.operands import contract

ROOT = Path(curtensor.__file__).parent
# From the top; a module imports only from layers below its own, or, in a package, from its own package.
LAYERS = [
    {"__main__"},
    {"adapters", "estimators", "single_cell", "report"},
    {"comparison"},
    {"cur", "interpolative", "kernels", "tensors"},
    {"accuracy", "explanation"},
    {"tolerance", "leverage"},
    {"selection", "svd"},
    {"sketching", "results", "cholesky", "cross", "groups"},
    {"plots"},
    {"operands"},
    {"archive"},
    {"files", "labels"},
    {"_validation", "_kernels"},
]
HEAVY = {
    "numba",
    "scipy",
    "tensorly",
    "torch",
    "dask",
    "matplotlib",
    "pandas",
    "sklearn",
    "tqdm",
    "h5py",
    "zarr",
    "polars",
    "xarray",
    "jax",
    "array_api_compat",
}
DEPTH = {name: depth for depth, layer in enumerate(LAYERS) for name in layer}
FILES = sorted(path for path in ROOT.rglob("*.py") if path.parent != ROOT or path.name != "__init__.py")


def test_the_page_of_the_design_has_these_floors():
    page = (ROOT.parent / "docs" / "design.md").read_text()
    floors = [re.findall(r"`(\w+)/?`", cells) for cells in re.findall(r"^\| \d+ \| ([^|]+) \|", page, re.MULTILINE)]
    assert [set(floor) for floor in floors] == LAYERS


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[0]


def imported_from_curtensor(path):
    """First parts, below curtensor, of all that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            if node.module == "curtensor":
                yield from (alias.name for alias in node.names)
            elif node.module.startswith("curtensor."):
                yield node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("curtensor."))


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_imports_go_down(path):
    name = module_of(path)
    assert name in DEPTH, f"{name} has no place in the layers"
    for other in imported_from_curtensor(path):
        if other in DEPTH and other != name:
            assert DEPTH[other] > DEPTH[name], f"{name} imports {other}"


def functions_and_classes(path):
    """Names that a file defines at its top."""
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def test_different_things_have_different_names():
    protocols = vars(contract).values()
    operations = {name for protocol in protocols if isinstance(protocol, type) for name in vars(protocol)}
    homes = {}
    for path in FILES:
        asked_for = operations if path.parent == ROOT / "operands" else set()
        for name in functions_and_classes(path) - asked_for:
            homes.setdefault(name, []).append(str(path.relative_to(ROOT)))
    assert {name: paths for name, paths in homes.items() if len(paths) > 1} == {}


def test_public_names_are_where_the_table_says():
    for name, home in curtensor._HOMES.items():
        assert module_of(ROOT / f"{home.replace('.', '/')}.py") in DEPTH
        assert getattr(curtensor, name).__module__.startswith(f"curtensor.{home}")
        assert name in dir(curtensor)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        curtensor.nonsense  # noqa: B018


def test_no_public_name_is_that_of_a_module():
    # the import of the module would put it in the place of the function
    assert not set(curtensor._HOMES) & {module_of(path) for path in FILES}


def in_a_fresh_process(code):
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT.parent, capture_output=True, text=True, check=True)
    return run.stdout.strip()


def test_import_loads_numpy_alone_of_the_heavy_packages():
    loaded = in_a_fresh_process("import sys, curtensor; print(*{name.split('.')[0] for name in sys.modules})").split()
    assert not HEAVY & set(loaded)


def test_decompositions_load_no_package_they_do_not_need():
    code = "import sys, curtensor, numpy; curtensor.cur_decomposition(numpy.eye(5), 2, rng=0)"
    loaded = in_a_fresh_process(code + "; print(*{name.split('.')[0] for name in sys.modules})").split()
    assert not (HEAVY - {"numba", "scipy"}) & set(loaded)


def test_import_costs_little_more_than_numpy():
    code = """
import time
import numpy
start = time.process_time()
import curtensor
print(time.process_time() - start)
"""
    assert min(float(in_a_fresh_process(code)) for _ in range(3)) <= 0.08
