"""The command: tables and files from good input, one line and status 2 from bad."""

import os
import re
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import curtensor
from curtensor.__main__ import main
from curtensor.files import EXAMPLE

h5py = pytest.importorskip("h5py")
zarr = pytest.importorskip("zarr")

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(curtensor.__file__)))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a named matrix in it, made the current one."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    A = rng.standard_normal((12, 3)) @ rng.standard_normal((3, 8))
    pd.DataFrame(A, [f"row{i}" for i in range(12)], [f"col{j}" for j in range(8)]).to_csv("matrix.csv")
    np.save("matrix.npy", A)
    sparse.save_npz("sparse.npz", sparse.csr_array(np.where(abs(A) > 1, A, 0)))
    return tmp_path


def test_compare_prints_svd_and_cur_on_the_shipped_matrix(capsys):
    assert main(["compare", "--rank", "3,6", "--seed", "0"]) == 0
    out, err = capsys.readouterr()
    assert "breast_cancer.npz: 569 rows x 30 columns, float64" in out and err == ""
    lines = [line.split() for line in out.splitlines()]
    for rank in ("3", "6"):
        assert ["svd", rank] in [line[:2] for line in lines]
        assert ["cur", rank] in [line[:2] for line in lines]


@pytest.mark.parametrize("file", ["matrix.csv", "matrix.npy", "sparse.npz"])
def test_compare_of_a_file_writes_table_and_plot(file, folder, capsys):
    command = ["compare", file, "--rank", "2", "--methods", "cur,uniform", "--csv", "out.csv", "--plot", "out.svg"]
    assert main(command) == 0
    table = pd.read_csv("out.csv")
    assert table.method.tolist() == ["svd", "cur", "uniform"]
    assert table["rank"].tolist() == [2, 2, 2]
    assert "12 rows x 8 columns, float64" in capsys.readouterr().out
    with open("out.svg") as file:
        assert "<svg" in file.read()


@pytest.mark.parametrize(("shape", "ranks"), [((30, 25), [5, 10, 20]), ((9, 12), [5]), ((3, 4), [1])])
def test_ranks_by_default_are_those_that_fit(shape, ranks, folder):
    np.save("other.npy", np.random.default_rng(0).standard_normal(shape))
    assert main(["compare", "other.npy", "--methods", "svd", "--csv", "out.csv"]) == 0
    assert pd.read_csv("out.csv")["rank"].tolist() == ranks


def test_decompose_writes_a_cur_and_prints_indices_and_names(folder, capsys):
    assert main(["decompose", "matrix.csv", "--rank", "3", "--seed", "1", "-o", "out.npz"]) == 0
    result = curtensor.CUR.load("out.npz")
    frame = pd.read_csv("matrix.csv", index_col=0)
    expected = curtensor.cur_decomposition((frame - frame.mean()) / frame.std(ddof=0), 3, rng=1)
    np.testing.assert_array_equal(result.col_indices, expected.col_indices)
    np.testing.assert_array_equal(result.col_names, expected.col_names)
    np.testing.assert_array_equal(result.row_names, expected.row_names)
    np.testing.assert_allclose(result.to_array(), expected.to_array(), rtol=0, atol=1e-10)
    out = capsys.readouterr().out
    for name, indices in (("col", result.col_indices), ("row", result.row_indices)):
        assert ", ".join(f"{i} {name}{i}" for i in indices) in out
    assert f"error estimate: {result.error_estimate:.4g}" in out


def test_decompose_holds_a_tolerance_and_takes_the_options(folder):
    command = ["decompose", "matrix.npy", "--rtol", "1e-8", "--method", "qdeim", "--core", "intersection"]
    assert main([*command, "-o", "out.npz"]) == 0
    result = curtensor.CUR.load("out.npz")
    assert curtensor.relative_error(np.load("matrix.npy"), result) <= 1e-8
    assert result.col_names is None


def test_decompose_of_a_sparse_file_stays_sparse(folder):
    command = ["decompose", "sparse.npz", "--rank", "2", "--n-rows", "4", "--n-columns", "3", "-o", "out.npz"]
    assert main(command) == 0
    result = curtensor.CUR.load("out.npz")
    assert sparse.issparse(result.C) and (result.C.shape, result.R.shape) == ((12, 3), (4, 8))


def test_compare_prints_tucker_and_cur_on_the_shipped_tensor(capsys):
    assert main(["compare", "--tensor", "--rank", "3,6", "--seed", "0", "--methods", "hooi,cur,tubal_svd"]) == 0
    out, err = capsys.readouterr()
    assert "indian_pines.npz: 48 x 48 x 50, uint16 (shipped with curtensor)" in out and err == ""
    lines = [line.split()[:2] for line in out.splitlines()]
    for rank in ("3", "6"):
        for method in ("st_hosvd", "hooi", "cur", "tubal_svd"):
            assert [method, rank] in lines


def test_alone_it_shows_what_it_can_do(capsys):
    assert main([]) == 0
    out, err = capsys.readouterr()
    assert err == "" and all(f"curtensor {name} " in out for name in ("select", "report", "decompose", "compare"))


@pytest.mark.parametrize("axis", [0, 1])
def test_select_prints_the_chosen_names_alone_and_says_the_rest_on_stderr(axis, folder, capsys):
    option, name = (("--rows", "row"), ("--columns", "col"))[axis]
    assert main(["select", "matrix.csv", option, "3", "--seed", "1"]) == 0
    out, err = capsys.readouterr()
    frame = pd.read_csv("matrix.csv", index_col=0)
    frame = (frame - frame.mean()) / frame.std(ddof=0)
    choose = curtensor.select_columns if axis else curtensor.select_rows
    assert out.split("\n") == [*(f"{name}{i}" for i in choose(frame, 3, rng=1)), ""]
    assert err.startswith("matrix.csv: 12 rows x 8 columns") and err.count("\n") == 1
    assert "centred and scaled to deviation 1, as each may have its own unit (--no-scale leaves them)" in err


def test_select_prints_numbers_where_there_are_no_names(folder, capsys):
    assert main(["select", "matrix.npy", "--columns", "2", "--include", "4", "--exclude", "0", "1", "--seed", "0"]) == 0
    chosen = curtensor.select_columns(np.load("matrix.npy"), 2, include=[4], exclude=[0, 1], rng=0)
    assert capsys.readouterr().out == f"{chosen[0]}\n{chosen[1]}\n"


def test_names_say_what_is_included_and_excluded(folder, capsys):
    command = ["select", "matrix.csv", "--columns", "3", "--include", "col7", "--exclude", "col0", "col1"]
    assert main(command) == 0
    chosen = capsys.readouterr().out.split()
    assert "col7" in chosen and not {"col0", "col1"} & set(chosen)


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".xlsx"])
@pytest.mark.parametrize("start", [["select", "matrix.csv", "--columns"], ["decompose", "matrix.csv", "--rank"]])
def test_the_table_has_names_order_what_each_adds_and_how_well_the_others_follow(start, ending, folder, capsys):
    assert main([*start, "2", "--seed", "0", "-o", f"out{ending}"]) == 0
    read = {".csv": pd.read_csv, ".parquet": pd.read_parquet, ".xlsx": pd.read_excel}[ending]
    table = read(f"out{ending}")
    frame = pd.read_csv("matrix.csv", index_col=0)
    A = ((frame - frame.mean()) / frame.std(ddof=0)).to_numpy()
    assert sorted(table.name) == [f"col{j}" for j in range(8)]
    assert [f"col{j}" for j in table.column] == table.name.tolist()
    chosen = table.column[:2].tolist()
    assert table.order[:2].tolist() == [1, 2] and table.order[2:].isna().all()
    if start[0] == "select":
        assert table.name[:2].tolist() == capsys.readouterr().out.split()
    for count in (1, 2):
        C = A[:, chosen[:count]]
        left = A - C @ np.linalg.lstsq(C, A)[0]
        share = 1 - np.linalg.norm(left) ** 2 / np.linalg.norm(A) ** 2
        np.testing.assert_allclose(table.explained_so_far[count - 1], share, atol=1e-12)
        np.testing.assert_allclose(table.adds[:count].sum(), share, atol=1e-12)
    each = 1 - (np.linalg.norm(left, axis=0) / np.linalg.norm(A, axis=0)) ** 2
    np.testing.assert_allclose(table.explained, each[table.column], atol=1e-12)


@pytest.mark.parametrize("rank", [["1", "2"], ["1,2"], ["1,", "2"]])
@pytest.mark.parametrize("file_first", [True, False])
def test_ranks_are_parted_by_spaces_or_commas_and_file_may_follow(rank, file_first, folder):
    ranks = ["--rank", *rank]
    arguments = ["matrix.npy", *ranks] if file_first else [*ranks, "matrix.npy"]
    assert main(["compare", *arguments, "--methods", "svd", "--csv", "out.csv"]) == 0
    assert pd.read_csv("out.csv")["rank"].tolist() == [1, 2]


def test_report_is_a_page_with_the_chosen_names(folder, capsys):
    assert main(["report", "matrix.csv", "--columns", "3", "--seed", "0", "-o", "out.html"]) == 0
    page = (folder / "out.html").read_text(encoding="utf-8")
    main(["select", "matrix.csv", "--columns", "3", "--seed", "0"])
    names = capsys.readouterr().out.split()[-3:]
    assert page.lower().startswith("<!doctype html") and "matrix.csv" in page and all(name in page for name in names)


def test_options_of_reading_reach_the_file(folder, capsys):
    (folder / "odd.txt").write_text("nothing\nx;y;z;k\n1,5;2;3;a\n-;5;6;b\n7;8,5;1;a\n")
    command = ["select", "odd.txt", "--columns", "1", "--header", "2", "--separator", ";", "--decimal", ","]
    command += ["--missing-values", "-", "--missing", "median", "--leave-out", "z", "--encoding", "latin-1"]
    assert main([*command, "--row-names", "none", "--no-scale", "--center"]) == 0
    out, err = capsys.readouterr()
    assert out in ("x\n", "y\n")
    for said in ("3 rows x 2 columns", "'z' (as asked)", "'k' (text)", "median of their column: 1", "columns centred"):
        assert said in err


def test_a_pipe_goes_in_and_names_come_out(folder):
    command = [sys.executable, "-m", "curtensor", "select", "-", "--columns", "2", "--seed", "0"]
    with open("matrix.csv", "rb") as file:
        run = subprocess.run(command, stdin=file, capture_output=True, check=True, cwd=ROOT, text=True)
    assert len(run.stdout.split()) == 2 and run.stderr.startswith("standard input: 12 rows x 8 columns")


def test_names_of_a_netcdf_tensor_are_printed_and_kept(folder, capsys):
    xarray = pytest.importorskip("xarray")
    X = np.random.default_rng(0).standard_normal((5, 4, 3))
    coords = {"x": list("abcde"), "y": [10, 20, 30, 40]}
    xarray.DataArray(X, dims=["x", "y", "z"], coords=coords, name="X").to_netcdf("cube.nc", engine="h5netcdf")
    assert main(["decompose", "cube.nc", "--rank", "2", "2", "2", "--seed", "0", "-o", "out.npz"]) == 0
    result = curtensor.TensorCUR.load("out.npz")
    assert result.names[0].tolist() == [list("abcde")[i] for i in result.indices[0]] and result.names[2] is None
    assert f"{result.indices[0][0]} {result.names[0][0]}" in capsys.readouterr().out


def tensor_file(shape=(9, 8, 7)):
    """Write a tensor of multilinear rank 2 to a file."""
    rng = np.random.default_rng(0)
    X = curtensor.tucker_to_tensor(rng.standard_normal((2,) * len(shape)), [rng.standard_normal((d, 2)) for d in shape])
    np.save("tensor.npy", X)
    return X


@pytest.mark.parametrize("shape", [(9, 8, 7), (5, 6, 4, 3)])
def test_compare_of_a_tensor_writes_table_and_plot(shape, folder, capsys):
    tensor_file(shape)
    command = ["compare", "tensor.npy", "--rank", "1,2", "--csv", "out.csv", "--plot", "out.png"]
    assert main(command) == 0
    table = pd.read_csv("out.csv")
    assert table.columns.tolist() == ["method", "rank", "error", "error_over_best", "cpu_seconds", "numbers"]
    assert table.method[0] == "st_hosvd" and ("tubal_cur" in set(table.method)) == (len(shape) == 3)
    exact = (table["rank"] == 2) & ~(table.method.str.startswith("tt_") & (len(shape) > 3))  # whose ranks are 2, 4, 2
    assert (table.error[exact] < 1e-12).all() and table.error[0] > 1e-3
    assert " x ".join(map(str, shape)) in capsys.readouterr().out
    assert (folder / "out.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("rank", ["2", "2,2,2"])
@pytest.mark.parametrize("options", [[], ["--method", "fiber"], ["--core", "projection"]])
def test_decompose_of_a_tensor_writes_a_tensor_cur_and_prints_indices(rank, options, folder, capsys):
    X = tensor_file()
    assert main(["decompose", "tensor.npy", "--rank", rank, *options, "--seed", "1", "-o", "out.npz"]) == 0
    result = curtensor.TensorCUR.load("out.npz")
    np.testing.assert_allclose(result.to_array(), X, atol=1e-11)
    if not options:
        np.testing.assert_array_equal(result.core, X[np.ix_(*result.indices)])
    out = capsys.readouterr().out
    for mode, indices in enumerate(result.indices):
        assert f"mode {mode} ({len(indices)}): " + ", ".join(map(str, indices)) in out
    assert f"read: {result.n_entries_read} entries; converged" in out
    assert "curtensor.TensorCUR.load reads it" in out


@pytest.mark.parametrize("method", ["tt_svd", "tt_cross"])
@pytest.mark.parametrize("given", [["--rank", "2"], ["--rank", "2,2"], ["--rtol", "1e-6"]])
def test_decompose_of_a_tensor_writes_a_tensor_train(method, given, folder, capsys):
    X = tensor_file()
    assert main(["decompose", "tensor.npy", *given, "--method", method, "-o", "out.npz"]) == 0
    train = curtensor.TensorTrain.load("out.npz")
    np.testing.assert_allclose(train.to_array(), X, atol=1e-5)
    out = capsys.readouterr().out
    assert "ranks: 2, 2" in out and f"holds: {train.n_stored} numbers" in out
    assert "curtensor.TensorTrain.load reads it" in out
    assert main(["decompose", "tensor.npy", *given, "--method", method, "--core", "x", "-o", "out.npz"]) == 2
    assert f"--core must be left out with --method {method}" in capsys.readouterr().err


def test_decompose_of_a_tensor_holds_a_tolerance(folder):
    rng = np.random.default_rng(0)
    X = tensor_file() + 1e-4 * rng.standard_normal((9, 8, 7))
    np.savez("tensor.npz", X=X)
    assert main(["decompose", "tensor.npz", "--rtol", "1e-2", "-o", "out.npz"]) == 0
    result = curtensor.TensorCUR.load("out.npz")
    assert np.linalg.norm(X - result.to_array()) <= 1e-2 * np.linalg.norm(X)


def test_decompose_of_a_store_prints_passes_and_bytes(folder, capsys):
    A = np.load("matrix.npy")
    with h5py.File("matrix.h5", "w") as file:
        file["first"], file["second"] = A, A
    zarr.create_array("matrix.zarr", data=A)
    for file in (["matrix.h5", "--dataset", "second"], ["matrix.zarr"], ["matrix.npy", "--memory", "1K"]):
        for core, passes in (("projection", 3), ("intersection", 2)):
            command = ["decompose", *file, "--rank", "2", "--core", core, "--seed", "0", "-o", "out.npz"]
            assert main(command) == 0
            found = re.search(r"read: (\d) passes, (\d+) bytes", capsys.readouterr().out)
            assert int(found[1]) == passes and int(found[2]) >= passes * A.nbytes
            expected = curtensor.cur_decomposition(A, 2, core=core, rng=0)
            assert curtensor.CUR.load("out.npz").col_indices.tolist() == expected.col_indices.tolist()


def test_compare_and_decompose_of_tensors_in_stores(folder, capsys):
    X = np.random.default_rng(0).standard_normal((9, 8, 7))
    zarr.create_array("tensor.zarr", data=X)
    assert main(["decompose", "tensor.zarr", "--rank", "2", "-o", "out.npz"]) == 0
    assert "9 x 8 x 7, float64" in capsys.readouterr().out


def test_compare_of_a_store(folder, capsys):
    zarr.create_array("matrix.zarr", data=np.load("matrix.npy"))
    assert main(["compare", "matrix.zarr", "--rank", "2", "--methods", "cur"]) == 0
    assert "12 rows x 8 columns, float64" in capsys.readouterr().out


BAD = [
    (["compare", "missing.npy"], "No such file or directory: 'missing.npy'"),
    (["compare", "folder.npy"], "Is a directory"),
    (["compare", "truncated.npy"], "truncated.npy must be a whole .npy file without pickled objects, got "),
    (["compare", "object.npy"], "object.npy must be a whole .npy file without pickled objects, got "),
    (["compare", "two.npz"], "two.npz must be one array, or as scipy.sparse.save_npz writes it, got 2 arrays: a, b"),
    (["compare", "text.npy"], "A must be an array of integers, .*, got dtype <U1"),
    (["compare", "cube.npy", "--rank", "3"], "each of ranks must be between 1 and 2, got 3"),
    (["compare", "cube.npy", "--methods", "svd"], "each of methods must be .*st_hosvd.*, got 'svd'"),
    (["compare", "line.npy"], "A must be 2-dimensional, got 1 dimensions"),
    (["compare", "point.npy"], "A must be 2-dimensional, got 0 dimensions"),
    (["compare", "nan_cube.npy"], r"A must be finite, got NaN or infinity, first at \(1, 0, 1\)"),
    (["compare", "matrix.npy", "--tensor"], "--tensor must be left out with FILE, got both"),
    (["compare", "nan.npy", "--rank", "2"], r"A must be finite, got NaN or infinity, first at \(1, 2\)"),
    (["compare", "nan.csv", "--rank", "2"], r"nan.csv must be complete, got 1 missing .* try --missing drop-rows, or"),
    (["compare", "text.csv"], "text.csv must be a table of plain numbers, got 'four' .*; try --missing-values four"),
    (["compare", "matrix.doc"], "the ending of matrix.doc must be one of .npy, .*, got '.doc'; try --format csv"),
    (["compare", "missing.zarr"], "No such file or directory: 'missing.zarr'"),
    (["compare", "matrix.npy", "--dataset", "X"], "dataset must be left out with a .npy file, got both"),
    (
        ["decompose", "matrix.csv", "--rank", "2", "--memory", "1G", "-o", "out.npz"],
        "--memory must be left out with what is no matrix in a .npy, .h5 or .zarr store, got both",
    ),
    (
        ["decompose", "matrix.npy", "--rank", "2", "--memory", "lots", "-o", "out.npz"],
        "--memory must be a number of bytes such as 512M or 2G, got 'lots'",
    ),
    (
        ["decompose", "matrix.npy", "--rank", "2", "--memory", "9", "-o", "out.npz"],
        "block_bytes must be at least 128, two blocks of one row, got",
    ),
    (["compare", "matrix.npy", "--rank", "0"], "each of ranks must be between 1 and 8, got 0"),
    (["compare", "matrix.npy", "--rank", "2,9"], "each of ranks must be between 1 and 8, got 9"),
    (["compare", "matrix.npy", "--rank", "two"], "--rank must be an integer, got 'two'"),
    (["compare", "matrix.npy", "--rank", "2.5"], "--rank must be an integer, got '2.5'"),
    (["compare", "matrix.npy", "--rank", "2,"], "--rank must be an integer, got ''"),
    (["compare", "matrix.npy", "--rank", "2", "--seed", "-1"], "rng must be between 0 and inf, got -1"),
    (["compare", "matrix.npy", "--rank", "2", "--methods", "nix"], "each of methods must be .*, got 'nix'"),
    (["compare", "matrix.npy", "--rank", "2", "--csv", "none/out.csv"], "--csv must be a file in a folder that can"),
    (["compare", "matrix.npy", "--rank", "2", "--plot", "folder.npy"], "--plot must be a file in a folder that can"),
    (["compare", "matrix.npy", "--rank", "2", "--plot", "out.xyz"], "the ending of the plot's file must be one of"),
    (["compare", "matrix.npy", "--nix"], "arguments must be as `curtensor --help` says, got unrecognized"),
    (["nix"], "arguments must be as `curtensor --help` says, got "),
    (
        ["decompose", "matrix.npy", "--rank", "2"],
        "arguments must be as `curtensor decompose --help` says, got .*output",
    ),
    (["decompose", "matrix.npy", "-o", "out.npz"], "rank or rtol must be given, one of the two, got neither"),
    (["decompose", "matrix.npy", "--rank", "2", "--rtol", ".1", "-o", "out.npz"], "rank or rtol must .*, got both"),
    (["decompose", "matrix.npy", "--rank", "9", "-o", "out.npz"], "rank must be between 1 and 8, got 9"),
    (["decompose", "matrix.npy", "--rtol", "x", "-o", "out.npz"], "--rtol must be a number, got 'x'"),
    (["decompose", "matrix.npy", "--rtol", "nan", "-o", "out.npz"], "rtol must be at least .*, got nan"),
    (["decompose", "matrix.npy", "--rtol", "1e-20", "-o", "out.npz"], "rtol must be at least .*, got 1e-20"),
    (["decompose", "matrix.npy", "--rank", "2", "--method", "nix", "-o", "out.npz"], "method must be .*, got 'nix'"),
    (["decompose", "matrix.npy", "--rank", "2", "--core", "nix", "-o", "out.npz"], "core must be .*, got 'nix'"),
    (["decompose", "matrix.npy", "--rank", "2", "-o", "none/out.npz"], "--output must be a file in a folder that can"),
    (["decompose", "matrix.npy", "--rank", "2", "-o", "out.txt"], "the ending of --output must be one of .npz"),
    (["decompose", "matrix.npy", "--rank", "2", "-o", "folder.npy"], "--output must be a file in a folder that can"),
    (["select", "matrix.csv", "--columns", "9"], "--columns of matrix.csv must be between 1 and 8, got 9"),
    (["select", "matrix.csv", "--rows", "0"], "--rows of matrix.csv must be between 1 and 8, got 0"),
    (["select", "matrix.csv"], "--columns or --rows must be given, one of the two, got neither"),
    (["select", "matrix.csv", "--columns", "2", "--rows", "2"], "--columns or --rows must be given, .*, got both"),
    (["select", "matrix.csv", "--columns", "2", "--include", "nix"], "--include must be names of columns, got 'nix'"),
    (["select", "matrix.npy", "--columns", "2", "--exclude", "8"], "--exclude must be numbers from 0 to 7, got '8'"),
    (["select", "cube.npy", "--columns", "1"], "cube.npy must be a matrix, got a tensor of shape"),
    (["select", "matrix.csv", "--columns", "2", "-o", "out.npz"], "the ending of --output must be one of .csv, .parq"),
    (["select", "matrix.csv", "--columns", "2", "-o", "folder.csv"], "--output must be a file in a folder that can"),
    (["report", "matrix.csv", "--columns", "2", "-o", "out.pdf"], "the ending of --output must be one of .html"),
    (["report", "matrix.csv", "--columns", "9", "-o", "out.html"], "--columns of matrix.csv must be between 1 and 8"),
    (["report", "cube.npy", "--columns", "1", "-o", "out.html"], "cube.npy must be a matrix, got a tensor"),
    (["select", "words.csv", "--columns", "1"], "words.csv must be a table with columns of numbers, got none in 'a'"),
    (["select", "constant.csv", "--columns", "1"], "a column that varies, got constant .*; try --no-scale$"),
    (["select", "cyrillic.csv", "--columns", "1"], "encoding that can be told, .*; try --encoding latin-1, cp1251"),
    (["select", "steps.csv", "--columns", "1"], "clear about its first line, .*; try --header 1 or --header none"),
    (
        ["select", "two.xlsx", "--columns", "1"],
        "two.xlsx must be a file of one sheet, got 'one', 'two'; try --dataset o",
    ),
    (
        ["select", "matrix.csv", "--columns", "1", "--header", "0"],
        "--header must be the number of a line, from 1, or F",
    ),
    (["select", "--columns", "1", "--leave-out", "x", "matrix.csv"], "got .* required: FILE; it comes before options"),
    (
        ["decompose", "cube.npy", "--rank", "1", "-o", "out.csv"],
        "the ending of --output for a tensor must be one of .npz",
    ),
    (["select", "matrix.csv", "--columns", "1", "--header", "x"], "--header must be an integer, got 'x'"),
    (["select", "matrix.csv", "--columns", "1", "--missing", "nix"], "arguments must be as .*, got argument --missing"),
    (
        ["select", "nan.npy", "--columns", "1"],
        r"A must be finite, .* first at \(1, 2\); try --missing drop-rows, drop-col",
    ),
    (
        ["decompose", "matrix.npy", "--rank", "2,2", "-o", "out.npz"],
        r"--rank of a matrix must be one integer, got \[2, 2",
    ),
    (["decompose", "cube.npy", "--rank", "2,2", "-o", "out.npz"], "ranks must be one for each of 3 modes, got"),
    (["decompose", "cube.npy", "--rank", "2,x", "-o", "out.npz"], "--rank must be an integer, got 'x'"),
    (["decompose", "cube.npy", "--rank", "2,2,3", "-o", "out.npz"], r"ranks\[2\] must be between 1 and 2, got 3"),
    (["decompose", "cube.npy", "-o", "out.npz"], "ranks or rtol must be given, one of the two, got neither"),
    (
        ["decompose", "cube.npy", "--rank", "2", "--n-rows", "2", "-o", "out.npz"],
        "--n-rows must be left out with a tens",
    ),
    (
        ["decompose", "cube.npy", "--rank", "2", "--method", "osinsky", "-o", "out.npz"],
        "method must be .*, got 'osinsky'",
    ),
    (["decompose", "nan_cube.npy", "--rank", "2", "-o", "out.npz"], r"X must be finite, got NaN .* at \(1, 0, 1\)"),
    (["decompose", "missing.csv", "--rank", "2", "-o", "out.npz"], "No such file or directory: 'missing.csv'"),
]


@pytest.mark.parametrize(("command", "message"), BAD)
def test_bad_input_gets_one_line_and_status_2_and_writes_nothing(command, message, folder, capsys):
    A = np.load("matrix.npy")
    (folder / "folder.npy").mkdir()
    (folder / "truncated.npy").write_bytes((folder / "matrix.npy").read_bytes()[:-9])
    np.save("object.npy", A.astype(object), allow_pickle=True)
    np.savez("two.npz", a=A, b=A)
    np.save("text.npy", np.array([["a", "b"]]))
    cube = np.zeros((2, 2, 2))
    np.save("cube.npy", cube)
    cube[1, 0, 1] = np.nan
    np.save("nan_cube.npy", cube)
    np.save("line.npy", np.arange(5.0))
    np.save("point.npy", 1.0)
    A[1, 2] = np.nan
    np.save("nan.npy", A)
    (folder / "nan.csv").write_text("1,nan\n3,4\n")
    (folder / "text.csv").write_text("1,2\n3,four\n")
    (folder / "folder.csv").mkdir()
    (folder / "words.csv").write_text("a,b\nx,y\nz,w\n")
    (folder / "constant.csv").write_text("a,b\n1,2\n1,2\n")
    (folder / "steps.csv").write_text("400,402,404,406,408\n1,5,2,4,4\n")
    (folder / "cyrillic.csv").write_bytes("Ветер,Давление\n1.5,2\n".encode("cp1251"))
    with pd.ExcelWriter("two.xlsx") as book:
        for name in ("one", "two"):
            pd.DataFrame(A).to_excel(book, sheet_name=name)
    (folder / "matrix.doc").write_text("1,2\n3,4\n")
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}

    assert main(command) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("curtensor: ") and err.count("\n") == 1 and err.endswith("\n")
    assert re.search(message, err)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_the_table_goes_to_standard_output_after_what_is_printed(folder):
    matrix = str(folder / "matrix.npy")
    command = ["compare", matrix, "--rank", "2", "--methods", "cur", "--csv", "/dev/stdout"]
    with open("out.txt", "w") as out:
        subprocess.run([sys.executable, "-m", "curtensor", *command], stdout=out, check=True, cwd=ROOT)
    printed = (folder / "out.txt").read_text().splitlines()
    assert printed[0] == "matrix.npy: 12 rows x 8 columns, float64" and printed[-3].startswith("method,rank,error")


@pytest.mark.skipif(os.name != "posix", reason="links as POSIX has them")
def test_the_output_may_be_a_link_to_a_file_elsewhere(folder):
    (folder / "elsewhere").mkdir()
    (folder / "out.npz").symlink_to("elsewhere/out.npz")
    assert main(["decompose", "matrix.npy", "--rank", "2", "-o", "out.npz"]) == 0
    assert (folder / "out.npz").is_symlink() and os.listdir("elsewhere") == ["out.npz"]
    assert curtensor.CUR.load("out.npz").rank == 2


@pytest.mark.skipif(os.name != "posix", reason="links as POSIX has them")
def test_a_link_into_a_missing_folder_is_refused_before_the_work(folder, capsys):
    (folder / "out.npz").symlink_to("missing/out.npz")
    assert main(["decompose", "matrix.npy", "--rank", "2", "-o", "out.npz"]) == 2
    assert "--output must be a file in a folder that can be written to" in capsys.readouterr().err


def test_missing_matplotlib_is_named_before_the_work(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["compare", "--plot", "out.png", "--csv", "out.csv"]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", "curtensor: a plot needs matplotlib: pip install 'curtensor[plot]'\n")
    assert not (folder / "out.csv").exists()


def test_interrupt_leaves_nothing_behind(folder, capsys, monkeypatch):
    def interrupted(file, **arrays):
        file.write(b"half")
        raise KeyboardInterrupt

    before = set(folder.iterdir())
    monkeypatch.setattr(np, "savez", interrupted)
    assert main(["decompose", "matrix.npy", "--rank", "2", "-o", "out.npz"]) == 130
    assert capsys.readouterr().err == "curtensor: interrupted\n"
    assert set(folder.iterdir()) == before


def test_bar_moves_on_a_terminal_only(folder, capsys, monkeypatch):
    command = ["compare", "matrix.npy", "--rank", "1,2", "--methods", "cur"]
    main(command)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    main(command)
    assert "%" in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], ["compare"], ["decompose"]])
def test_help_and_version_go_to_stdout(command, capsys):
    for option, text in (("--help", "usage: curtensor"), ("--version", f"curtensor {curtensor.__version__}")):
        if command and option == "--version":
            continue
        with pytest.raises(SystemExit) as caught:
            main([*command, option])
        assert caught.value.code == 0
        assert text in capsys.readouterr().out


def run(*command, **options):
    """A process with the command, from the root of the sources."""
    return subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def test_module_runs_as_a_command():
    process = run("-m", "curtensor", "compare", str(EXAMPLE), "--rank", "2", "--methods", "svd")
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert "svd" in out


def test_bad_input_in_a_process_has_status_2_and_one_line():
    process = run("-m", "curtensor", "compare", "missing.csv")
    assert process.communicate() == ("", "curtensor: [Errno 2] No such file or directory: 'missing.csv'\n")
    assert process.returncode == 2


def test_closed_pipe_is_no_traceback():
    read, write = os.pipe()
    os.close(read)
    process = subprocess.Popen(
        [sys.executable, "-m", "curtensor", "compare", "--rank", "2", "--methods", "svd"],
        cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    os.close(write)
    assert process.communicate()[1] == ""
    assert process.returncode == 141


def test_interrupted_process_has_status_130(tmp_path):
    script = (
        "import sys, time, curtensor.cur as cur\n"
        "def slow(*args, **options): print('started', flush=True); time.sleep(60)\n"
        "cur.cur_decomposition = slow\n"
        "from curtensor.__main__ import main\n"
        f"sys.exit(main(['decompose', {str(EXAMPLE)!r}, '--rank', '2', '-o', {str(tmp_path / 'out.npz')!r}]))"
    )
    process = run("-c", script)
    assert process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate()[1] == "curtensor: interrupted\n"
    assert process.returncode == 130
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_import_costs_at_most_80_ms_of_cpu_beyond_numpy():
    def seconds(module):
        script = f"import time; start = time.process_time(); import {module}; print(time.process_time() - start)"
        return min(float(run("-c", script).communicate()[0]) for _ in range(7))

    seconds("curtensor")  # compiled to bytecode
    assert seconds("curtensor") - seconds("numpy") <= 0.08


@pytest.mark.parametrize("shape", [(12, 10), (6, 7, 8)], ids=["matrix", "tensor"])
def test_a_damaged_store_is_read_or_answered_by_one_line(shape, tmp_path, capsys):
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "whole.h5", "w") as file:
        file.create_dataset("X", data=rng.standard_normal(shape), compression="gzip")
        file["X"].attrs["units"] = "m"
        file["group/link"] = h5py.SoftLink("/X")
    whole = np.fromfile(tmp_path / "whole.h5", np.uint8)
    for count in range(40):
        damaged, path = whole.copy(), tmp_path / f"{count}.h5"
        damaged[rng.integers(0, len(whole), 8)] = rng.integers(0, 256, 8)
        damaged.tofile(path)
        for more in ([], ["--dataset", "X"]):
            command = ["decompose", str(path), "--rank", "2", *more, "-o", str(tmp_path / "out.npz")]
            status, lines = main(command), capsys.readouterr().err.splitlines()
            assert (status, len(lines)) in ((0, 0), (2, 1)), lines
