import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import naive
import numpy as np
import pytest
from matrices import DTYPES, eps, normal
from numpy.testing import assert_allclose, assert_array_equal

import curtensor as ct
from curtensor import _kernels
from curtensor.operands import ndarray
from curtensor.sketching import random_matrix, sparse_sign

ROOT = Path(ct.__file__).parent.parent
KERNELS = [name for name, value in vars(_kernels).items() if hasattr(value, "py_func")]


def signs(n, size, dtype, rng):
    S = random_matrix(sparse_sign, n, size, dtype, rng)
    return S.indices.reshape(n, -1), S.data.reshape(n, -1)


@pytest.mark.parametrize("name", KERNELS)
def test_every_kernel_has_a_plain_twin(name):
    assert callable(getattr(naive, name))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (33, 7), (70, 1100), (31, 2049)])
def test_sketches_of_a_panel_are_those_of_its_twin(shape, dtype, rng):
    panel = normal(shape, dtype, rng)
    arguments = *signs(shape[0], 9, dtype, rng), *signs(shape[1], 6, dtype, rng)
    targets = [(np.ones((9, shape[1]), dtype), np.ones((6, shape[0]), dtype)) for _ in range(2)]
    if shape == (1, 1):  # the identity instead of a sketch
        arguments = *signs(1, 1, dtype, rng), *signs(1, 1, dtype, rng)
    square = _kernels.sketch_panel(panel, *arguments, *targets[0])
    expected = naive.sketch_panel(panel, *arguments, *targets[1])
    assert_allclose(square, expected, rtol=10 * eps(dtype))
    for found, wanted in zip(*targets, strict=True):
        assert_allclose(found, wanted, atol=200 * eps(dtype) * np.sqrt(max(shape)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_sided_sketches_leave_the_other_side_alone(dtype, rng):
    panel = normal((40, 30), dtype, rng)
    rows, row_signs = signs(40, 8, dtype, rng)
    none = np.empty((30, 0), np.int32), np.empty((30, 0), row_signs.dtype)
    left, right = np.zeros((8, 30), dtype), np.zeros((0, 40), dtype)
    _kernels.sketch_panel(panel, rows, row_signs, *none, left, right)
    Y = np.zeros((40, 8))
    np.add.at(Y, (np.arange(40)[:, None], rows), row_signs)
    assert_allclose(left, Y.T @ panel, atol=100 * eps(dtype))


@pytest.mark.parametrize("dtype", [*DTYPES, "int8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_small_arrays_have_the_sketches_that_kernels_make(order, dtype, rng, monkeypatch):
    A = np.asarray((5 * normal((60, 40), np.result_type(dtype, "f4"), rng)).astype(dtype), order=order)
    Y, X = (random_matrix(sparse_sign, n, 9, ndarray.dtype(A), rng) for n in A.shape)
    small = ndarray.sketch_both(A, Y, X)
    monkeypatch.setattr(_kernels, "SMALL", 0)
    for found, expected in zip(small, ndarray.sketch_both(A, Y, X), strict=True):
        assert np.asarray(found).dtype == np.asarray(expected).dtype
        assert_allclose(found, expected, rtol=100 * eps(ndarray.dtype(A)), atol=1e3 * eps(ndarray.dtype(A)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_squared_moduli_are_those_of_its_twin(dtype, rng):
    panel = normal((50, 300), dtype, rng)
    assert_allclose(_kernels.squared_moduli(panel), naive.squared_moduli(panel), rtol=100 * eps(float))


@pytest.mark.parametrize("dtype", DTYPES)
def test_gathered_entries_are_those_of_its_twin(dtype, rng):
    flat = normal((500,), dtype, rng)
    rows, columns = rng.integers(0, 250, 30), rng.integers(0, 250, 70)
    ours, plain = np.empty((30, 70), dtype), np.empty((30, 70), dtype)
    _kernels.gather(flat, rows, columns, ours)
    naive.gather(flat, rows, columns, plain)
    assert_array_equal(ours, plain)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_and_infinity_survive(dtype, value, rng):
    panel = normal((40, 50), dtype, rng)
    panel[17, 31] = value
    assert not np.isfinite(_kernels.squared_moduli(panel))
    arguments = *signs(40, 9, dtype, rng), *signs(50, 6, dtype, rng)
    left, right = np.zeros((9, 50), dtype), np.zeros((6, 40), dtype)
    assert not np.isfinite(_kernels.sketch_panel(panel, *arguments, left, right))
    assert not np.isfinite(left).all()
    assert not np.isfinite(right).all()


def run(code, folder=ROOT, **environment):
    """The output of code in a fresh process with the package in a folder, in which warnings are errors."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("NUMBA_")} | environment
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


DECOMPOSE = """
import numpy as np, curtensor as ct
from curtensor import _kernels
_kernels.SMALL = 0
A = np.random.default_rng(0).standard_normal((40, 30))
result = ct.cur_decomposition(A, 5, rng=0)
print(result.col_indices.tolist(), result.row_indices.tolist(), f"{result.error_estimate:.10f}")
"""


def decomposed():
    A = np.random.default_rng(0).standard_normal((40, 30))
    result = ct.cur_decomposition(A, 5, rng=0)
    return f"{result.col_indices.tolist()} {result.row_indices.tolist()} {result.error_estimate:.10f}"


def test_kernels_run_without_compilation():
    assert run(DECOMPOSE, NUMBA_DISABLE_JIT="1") == decomposed()


SMALL_TABLE = """
import numpy as np, curtensor as ct
from curtensor import _kernels
for dtype in ("float32", "float64", "complex64", "complex128", "int64"):
    A = (9 * np.random.default_rng(0).standard_normal((569, 30))).astype(dtype)
    for B in (A, np.asfortranarray(A)):
        ct.cur_decomposition(B, 5, rng=0), ct.cur_decomposition(B, rtol=0.5, core="intersection", rng=0)
        ct.select_rows(B, 5, rng=0), ct.interpolative_decomposition(B, 5, method="exchange", rng=0)
        ct.randomized_svd(B, 5, rng=0), ct.tensor_cur(B[:480].reshape(12, 40, 30), 3, rng=0)
print(sum(len(value.signatures) for value in vars(_kernels).values() if hasattr(value, "signatures")))
"""


def test_a_first_look_at_a_small_table_compiles_nothing(tmp_path):
    assert run(SMALL_TABLE, NUMBA_CACHE_DIR=str(tmp_path)) == "0"


ONE_KERNEL = """
import numpy as np
from curtensor import _kernels
_kernels.squared_moduli(np.ones((2, 3)))
print(sum(_kernels.squared_moduli.stats.cache_hits.values()), _kernels.__file__)
"""


@pytest.fixture
def read_only_install(tmp_path):
    """A copy of the package beside whose files nothing can be written, not even by root."""
    shutil.copytree(ROOT / "curtensor", tmp_path / "curtensor", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in [path for path in (tmp_path / "curtensor").rglob("*") if path.is_dir()] + [tmp_path / "curtensor"]:
        (folder / "__pycache__").write_text("a file in the place of the folder")
    return tmp_path


def test_a_read_only_install_is_cached_in_the_users_folder(read_only_install, tmp_path):
    places = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    for hits in (0, 1):
        assert run(ONE_KERNEL, read_only_install, **places).split()[0] == str(hits)
    assert str(read_only_install) in run(ONE_KERNEL, read_only_install, **places)


def test_kernels_compile_where_nothing_can_be_written(read_only_install):
    nowhere = {"XDG_CACHE_HOME": "/dev/null/cache", "HOME": "/dev/null", "IPYTHONDIR": "/dev/null"}
    assert run(ONE_KERNEL, read_only_install, **nowhere).split()[0] == "0"


def test_eight_threads_give_what_one_gives(rng, monkeypatch):
    monkeypatch.setattr(_kernels, "SMALL", 0)
    matrices = [normal((60, 50), dtype, rng) for dtype in DTYPES for _ in range(4)]

    def everything(A):
        result = ct.cur_decomposition(A, 6, rng=0)
        columns = ct.select_columns(A, 6, method="arp", rng=0)
        return result.to_array(), columns, ct.randomized_svd(A, 5, rng=0).s, ct.leverage_scores(A, 5)

    expected = [everything(A) for A in matrices]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(everything, matrices))
    for A, parts, others in zip(matrices, expected, found, strict=True):
        assert_array_equal(parts[1], others[1])
        for part, other in zip(parts, others, strict=True):
            assert_allclose(part, other, atol=100 * eps(A.dtype))


def test_eight_threads_may_all_be_the_first(tmp_path):
    code = """
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from curtensor import _kernels
with ThreadPoolExecutor(8) as pool:
    print(*set(pool.map(_kernels.squared_moduli, [np.ones((4, 5))] * 32)))
"""
    assert run(code, NUMBA_CACHE_DIR=str(tmp_path)) == "20.0"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
def test_children_of_a_fork_give_what_the_parent_gives():
    code = (
        DECOMPOSE
        + """
import os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)
for _ in range(3):
    child = os.fork()
    if child == 0:
        again = ct.cur_decomposition(A, 5, rng=0)
        os._exit(0 if np.allclose(again.to_array(), result.to_array(), rtol=0, atol=1e-12) else 1)
    assert os.waitpid(child, 0)[1] == 0
"""
    )
    assert run(code) == decomposed()
