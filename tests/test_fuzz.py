"""Damaged files are refused in one line, whatever the damage: thousands of seeded changes to a file of every kind.

A process of its own, with little memory, reads them: it must end well, and name no failure.
"""

import contextlib
import io
import itertools
import shutil
import struct
import subprocess
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from scipy import io as scipy_io
from scipy import sparse

import curtensor as ct
from curtensor.__main__ import main

SPARE = 2**32  # bytes that a process may take to read files of a few kilobytes, the stacks of its threads among them
SEEDS = range(2)
RESULTS = ["CUR", "named CUR", "sparse CUR", "dated CUR", "SVD", "sparse ID", "row ID", "TensorCUR", "named TensorCUR"]
RESULTS += ["Tucker", "TubalCUR", "TubalSVD"]
ENDINGS = [".npy", ".npz", ".sparse.npz", ".mtx", ".array.mtx", ".csv", ".h5", ".zarr"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", RESULTS)
def test_a_damaged_result_is_consistent_or_refused_in_the_one_form(kind, seed):
    run("results", kind, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("ending", ENDINGS)
def test_the_command_reads_a_damaged_file_or_refuses_it_in_one_line(ending, seed):
    run("matrices", ending, seed)


def run(what, kind, seed):
    pytest.importorskip("resource", reason="limits of memory as POSIX has them")
    if kind in (".h5", ".zarr"):
        pytest.importorskip({".h5": "h5py", ".zarr": "zarr"}[kind])
    action = "error" if what == "results" else "default"
    command = [sys.executable, "-W", f"{action}::UserWarning", __file__, what, kind, str(seed)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")


def result_of(kind):
    rng = np.random.default_rng(0)
    A, X = rng.standard_normal((9, 7)), rng.standard_normal((5, 6, 4))
    if kind == "named CUR":
        import pandas as pd

        return ct.cur_decomposition(pd.DataFrame(A, list("abcdefghi"), list("ABCDEFG")), 3, rng=0)
    if kind == "dated CUR":
        import pandas as pd

        levels = [pd.Categorical(list("abcabca")), pd.interval_range(0, 7), [1, None, "a", 2.5, ("x", 1), pd.NaT, True]]
        days = pd.date_range("2026-01-01", periods=9, tz="Europe/Berlin")
        return ct.cur_decomposition(pd.DataFrame(A, days, pd.MultiIndex.from_arrays(levels)), 3, rng=0)
    if kind == "named TensorCUR":
        import xarray as xr

        coords = {"x": list("abcde"), "z": range(4)}
        return ct.tensor_cur(xr.DataArray(X, dims=("x", "y", "z"), coords=coords), 2, rng=0)
    return {
        "CUR": lambda: ct.cur_decomposition(A + 1j, 3, n_rows=4, rng=0),
        "sparse CUR": lambda: ct.cur_decomposition(sparse.csr_array(A * (A > 0)), 3, rng=0),
        "SVD": lambda: ct.randomized_svd(A, 3, rng=0),
        "sparse ID": lambda: ct.interpolative_decomposition(sparse.csr_array(A * (A > 0)), 3, rng=0),
        "row ID": lambda: ct.interpolative_decomposition(A + 1j, 3, axis=0, rng=0),
        "TensorCUR": lambda: ct.tensor_cur(X.astype("c8"), 2, rng=0),
        "Tucker": lambda: ct.st_hosvd(X, (2, 3, 2)),
        "TubalCUR": lambda: ct.tubal_cur(X.astype("f4"), 2, rng=0),
        "TubalSVD": lambda: ct.tubal_svd(X, 2),
    }[kind]()


def fuzz_results(kind, seed):
    """Complaints about what `load` does with 1000 damaged files of a result."""
    result = result_of(kind)
    result.save("good.npz")
    good = Path("good.npz").read_bytes()
    limit_memory()
    for number in range(1000):
        rng = np.random.default_rng([seed, number])
        Path("bad.npz").write_bytes(damaged(good, rng, zipped=True))
        try:
            again = type(result).load("bad.npz")
            inconsistency(again)
        except (Exception, SystemExit) as error:
            text, form = str(error), f"path must be a file written by {type(result).__name__}.save, got 'bad.npz': "
            if type(error) is not ValueError or not text.startswith(form) or "\n" in text or "pickle" in text:
                yield f"{number}: {type(error).__name__}: {text}"


def inconsistency(result):
    """Use all that a loaded result has; raises if its parts do not fit."""
    assert result.to_array().shape == result.shape
    for length, chosen in zip(result.shape, result.chosen, strict=True):
        if chosen is None:
            continue
        assert len(set(chosen)) == len(chosen) and all(0 <= i < length for i in chosen)
    for names, chosen, length in zip(result.names, result.chosen, result.shape, strict=True):
        assert names is None or len(names) == (length if chosen is None else len(chosen))
    result.save("again.npz")
    assert repr(result) and tuple(result)
    np.testing.assert_array_equal(type(result).load("again.npz").to_array(), result.to_array())


def fuzz_matrices(ending, seed):
    """Complaints about what the command does with 600 damaged files of an ending, 60 where each needs a process."""
    good, bad = Path(f"good{ending}"), Path(f"bad{ending}")
    write_matrix(good, ending)
    limit_memory()
    for number in range(60 if ending.endswith(".mtx") else 600):
        rng = np.random.default_rng([seed, number])
        if ending == ".zarr":
            shutil.rmtree(bad, ignore_errors=True)
            shutil.copytree(good, bad)
            files = sorted(path for path in bad.rglob("*") if path.is_file())
            for _ in range(rng.integers(1, 3)):
                one = files[rng.integers(len(files))]
                if one.exists() and rng.random() < 0.1:
                    one.unlink()
                elif one.exists():
                    one.write_bytes(damaged(one.read_bytes(), rng, text=one.suffix == ".json"))
        else:
            text = ending.endswith((".csv", ".mtx"))
            bad.write_bytes(damaged(good.read_bytes(), rng, zipped=ending.endswith(".npz"), text=text))
        out, err = io.StringIO(), io.StringIO()
        command = ["decompose", str(bad), "--rank", "2", "--seed", "0", "-o", "out.npz"]
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                status = main(command)
        except (Exception, SystemExit) as error:
            yield f"{number}: {type(error).__name__}: {error}"
            continue
        lines = err.getvalue().splitlines()
        if status not in (0, 2) or (status == 2 and (len(lines) != 1 or not lines[0].startswith("curtensor: "))):
            yield f"{number}: status {status}, {err.getvalue()}"


def write_matrix(path, ending):
    A = np.random.default_rng(0).standard_normal((7, 6)).round(3)
    if ending == ".npy":
        np.save(path, A)
    elif ending == ".npz":
        np.savez_compressed(path, A)
    elif ending == ".sparse.npz":
        sparse.save_npz(path, sparse.csr_array(A * (A > 0)))
    elif ending == ".csv":
        lines = [",a,b,c,d,e,f", *(f"row {i}," + ",".join(map(str, row)) for i, row in enumerate(A.tolist()))]
        path.write_text("\n".join(lines))
    elif ending == ".h5":
        import h5py

        with h5py.File(path, "w") as file:
            file.create_dataset("group/A", data=A, chunks=(3, 2), compression="gzip")
    elif ending == ".zarr":
        import zarr

        zarr.open_group(path, mode="w").create_array("A", data=A, chunks=(3, 2))
    else:
        scipy_io.mmwrite(path, A if ending == ".array.mtx" else sparse.coo_array(A * (A > 0)), precision=4)


ODD_TEXTS = [
    "",
    " ",
    "\n",
    "\r",
    "\t",
    "\0",
    "\ufeff",
    "\u0665",
    "é",
    ",",
    ";",
    "%",
    "#",
    '"',
    "'",
    "[",
    "]",
    "{",
    "}",
    "null",
]
ODD_TEXTS += [
    "nan",
    "inf",
    "-inf",
    "1e999",
    "1e-400",
    "-1",
    "0",
    "1.5",
    "9" * 7,
    "9" * 20,
    "1_0",
    "0x1",
    "1+2j",
    "(1,2)",
]
ODD_TEXTS += [
    "symmetric",
    "skew-symmetric",
    "hermitian",
    "complex",
    "pattern",
    "array",
    "coordinate",
    "object",
    "float32",
]


class Trap:
    """Unpickling it ends the process."""

    def __reduce__(self):
        return sys.exit, ("unpickled",)


def damaged(content, rng, *, zipped=False, text=False):
    """Content after a change or two of a kind drawn at random."""
    if zipped and rng.random() < 0.7:
        with contextlib.suppress(zipfile.BadZipFile):
            return rezipped(content, rng)
    if text and rng.random() < 0.7:
        words = content.decode("latin-1").replace("\n", " \n ").replace(",", " , ").split(" ")
        for _ in range(rng.integers(1, 4)):
            at, odd = rng.integers(len(words)), ODD_TEXTS[rng.integers(len(ODD_TEXTS))]
            words[at : at + 1] = [[odd], [], [odd, words[at]], [words[at], words[at]]][rng.integers(4)]
        return " ".join(words).replace(" \n ", "\n").replace(" , ", ",").encode()
    content = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        kind, at = rng.integers(6), int(rng.integers(max(len(content), 1)))
        if kind == 0:
            content = content[:at]
        elif kind == 1:
            del content[at : at + int(rng.integers(1, 40))]
        elif kind == 2:
            content[at:at] = rng.bytes(int(rng.integers(1, 40)))
        elif kind == 3:
            width = int(rng.choice([1, 2, 4, 8]))
            content[at : at + width] = [b"\0" * width, b"\xff" * width][rng.integers(2)]
        elif content:
            content[at] ^= 1 << int(rng.integers(8))
    return bytes(content)


def rezipped(content, rng):
    """A zip file with sound checksums whose members are others, or fewer, or more."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    for _ in range(rng.integers(1, 3)):
        at, other = rng.integers(len(members), size=2)
        (name, data), kind = members[at], rng.integers(9)
        if kind == 0:
            del members[at]
        elif kind == 1:
            members.append((name, members[other][1]))
        elif kind == 2:
            members[at] = (
                str(rng.choice([name + "x", "x", ".npy", "../x.npy", "curtensor.npy", name[:-4] or "x"])),
                data,
            )
        elif kind == 3:
            members[at], members[other] = (name, members[other][1]), (members[other][0], data)
        elif kind in (4, 5):
            members[at] = (name, reheaded(data, rng))
        elif kind == 6:
            members[at] = (name, damaged(data, rng))
        else:
            members[at] = (name, odd_array(data, rng))
        if not members:
            break
    method = zipfile.ZIP_DEFLATED if rng.random() < 0.1 else zipfile.ZIP_STORED
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", method) as archive:
        warnings.simplefilter("ignore")  # two of one name
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()


HEADERS = [
    "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -1), }",
    "{'descr': '<f8', 'fortran_order': True, 'shape': (9223372036854775807, 9223372036854775807), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (0, 1000000000000), }",
    "{'descr': '<U1000000000', 'fortran_order': False, 'shape': (), }",
    "{'descr': '<U0', 'fortran_order': False, 'shape': (1000000000000,), }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (3,), }",
    "{'descr': [('a', '<f8'), ('b', '|O')], 'fortran_order': False, 'shape': (3,), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (3L, 4L), }",
    "{'descr': '<f8', 'fortran_order': 1, 'shape': (True,), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': 3, 'more': 4}",
    "(" * 3000,
    "-" * 9000 + "1",
    "[" * 90 + "]" * 90,
    "{'descr': '>f8', 'fortran_order': True, 'shape': (3, 3), }",
    "{'descr': '<M8[s]', 'fortran_order': False, 'shape': (9,), }",
    "{'descr': '|V8', 'fortran_order': False, 'shape': (9,), }",
    "{'descr': '<f3', 'fortran_order': False, 'shape': (9,), }",
    "",
]


def reheaded(data, rng):
    """An array's bytes under another header."""
    body = data[10 + int.from_bytes(data[8:10], "little") :]
    header = (HEADERS[rng.integers(len(HEADERS))] + "\n").encode()
    return (
        b"\x93NUMPY"
        + rng.choice([b"\1\0", b"\1\0", b"\2\0", b"\3\0", b"\x09\0"])
        + struct.pack("<H", len(header))
        + header
        + body
    )


def odd_array(data, rng):
    """Another array in the place of one, such as a result does not have there."""
    buffer = io.BytesIO()
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception:
        array = np.ones((2, 3))
    odd = [
        lambda: np.array([Trap()], dtype=object),
        lambda: array.astype(str),
        lambda: np.zeros(array.shape, int),
        lambda: np.ones(array.shape, "f2"),
        lambda: np.full(array.shape, np.nan),
        lambda: array.T,
        lambda: array[..., None],
        lambda: array[:0] if array.ndim else array.ravel(),
        lambda: array[:-1] if array.ndim else array,
        lambda: np.repeat(array[:1], len(array), 0) if array.ndim and array.size else array,
        lambda: array.ravel(),
        lambda: array.ravel()[:1].reshape(()) if array.size else array,
        lambda: np.asfortranarray(array),
        lambda: array.astype(array.dtype.newbyteorder("S")),
        lambda: np.zeros(2000000),
        lambda: np.array(-5),
        lambda: np.full(3, 2**62),
    ]
    np.save(buffer, odd[rng.integers(len(odd))](), allow_pickle=True)
    return buffer.getvalue()


def limit_memory():
    """No more memory than now and a little."""
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else None
    if pages is not None:
        limit = pages * resource.getpagesize() + SPARE
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    fuzz = {"results": fuzz_results, "matrices": fuzz_matrices}[sys.argv[1]]
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for complaint in itertools.islice(fuzz(sys.argv[2], int(sys.argv[3])), 20):
            print(complaint)
