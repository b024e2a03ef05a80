"""Files of everyday kinds are read right, with their names, or refused in one sentence that says what to type."""

import decimal
import gzip
import io
import subprocess
import sys
import warnings

import numpy as np
import pytest
from scipy import io as scipy_io
from scipy import sparse

from curtensor import files
from curtensor.files import read_matrix

pd = pytest.importorskip("pandas")
h5py = pytest.importorskip("h5py")
zarr = pytest.importorskip("zarr")
for module in ("pyarrow", "openpyxl", "xarray", "h5netcdf", "PIL"):
    pytest.importorskip(module)

A = np.array([[1.5, -2.25, 3.0], [4.125, 5.0, -6.5], [7.0, 8.75, 9.5], [-1.0, 0.5, 2.0]])
ROWS, COLUMNS = ["Zürich", "NA", "c", "d d"], ["T (°C)", "wind", "x, y"]
FRAME = pd.DataFrame(A, pd.Index(ROWS, dtype=object), pd.Index(COLUMNS, dtype=object))
YEARS = ["1990", "1991", "1992"]
WORDS = pd.DataFrame(
    {
        "x": [1.5, 4.125],
        "kind": ["good", "good"],
        "flag": [True, False],
        "day": pd.to_datetime(["2020-01-01", "2020-01-02"]),
    }
)


def text(content, encoding="utf-8"):
    return lambda path: path.write_bytes(content.encode(encoding))


def table(encoding="utf-8", **options):
    return lambda path: path.write_bytes(FRAME.to_csv(**options).encode(encoding))


def hdf5(**members):
    def write(path):
        with h5py.File(path, "w") as file:
            for name, member in members.items():
                file[name.replace("__", "/")] = member

    return write


def h5ad(path, layers=(), index=True):
    """A file as AnnData writes it: https://anndata.readthedocs.io/en/stable/fileformat-prose.html."""
    with h5py.File(path, "w") as file:
        file.attrs["encoding-type"] = "anndata"
        for place in ("X", *(f"layers/{name}" for name in layers)):
            write_csr(file.create_group(place), sparse.csr_array(A * (1 if place == "X" else 2)))
        for place, names in (("obs", ROWS), ("var", COLUMNS)):
            file[f"{place}/_index"] = np.array([name.encode() for name in names])
            file[place].attrs["_index"] = "_index"
        file["obsm/X_pca"] = np.ones((4, 2))


def write_csr(group, matrix):
    for name in ("data", "indices", "indptr"):
        group[name] = getattr(matrix, name)
    group.attrs["encoding-type"], group.attrs["shape"] = "csr_matrix", matrix.shape


def by_cell_ranger(path):
    with h5py.File(path, "w") as file:
        matrix = sparse.csc_array(A.T)  # genes x cells
        for name in ("data", "indices", "indptr"):
            file[f"matrix/{name}"] = getattr(matrix, name)
        file["matrix/shape"] = matrix.shape
        file["matrix/barcodes"], file["matrix/features/name"] = [
            [name.encode() for name in names] for names in (ROWS, COLUMNS)
        ]


def data_array(shape=(4, 3)):
    import xarray

    times = pd.date_range("2020-01-01", periods=shape[0])
    names = {"time": times, "station": COLUMNS, "band": [10, 20]}
    values = A.reshape(shape) if len(shape) == 2 else np.arange(np.prod(shape), dtype=float).reshape(shape)
    dims = list(names)[: len(shape)]
    return xarray.DataArray(values, dims=dims, coords={dim: names[dim] for dim in dims}, name="t")


def image(mode, values):
    def write(path):
        from PIL import Image

        Image.fromarray(values).convert(mode).save(path)

    return write


def excel(frames, **options):
    def write(path):
        with pd.ExcelWriter(path, engine="openpyxl") as book:
            for name, frame in frames.items():
                frame.to_excel(book, sheet_name=name, **options)

    return write


def titled(path):
    rows = [["My table", None, None], [None] * 3, ["n", "a", "b"], ["x", 1, 2], ["y", 3, 4]]
    pd.DataFrame(rows).to_excel(path, index=False, header=False)


def market(A):
    content = io.BytesIO()
    scipy_io.mmwrite(content, sparse.coo_array(A))
    return content.getvalue()


GREY = np.arange(24, dtype=np.uint8).reshape(4, 6)
DAYS = ["2020-01-01", "2020-01-02", "2020-01-03", "2020-01-04"]
FIRST_TWO = [["1.5", "4.125"]]

# name: what writes it, options, the matrix, the names of its rows and columns
READ = {
    "comma.csv": (table(), {}, A, ROWS, COLUMNS),
    "semicolon.csv": (table(sep=";"), {}, A, ROWS, COLUMNS),
    "decimal_comma.csv": (table(sep=";", decimal=","), {}, A, ROWS, COLUMNS),
    "quoted_decimal_comma.csv": (table(decimal=",", quoting=1), {}, A, ROWS, COLUMNS),
    "tab.tsv": (table(sep="\t"), {}, A, ROWS, COLUMNS),
    "tab.txt": (table(sep="\t"), {}, A, ROWS, COLUMNS),
    "bar.txt": (table(sep="|"), {}, A, ROWS, COLUMNS),
    "spaces.txt": (lambda path: np.savetxt(path, A), {}, A, None, None),
    "comment.txt": (lambda path: np.savetxt(path, A, header="a b c"), {}, A, None, ["a", "b", "c"]),
    "of_r.txt": (text('"x" "y"\n"1" 2 3.5\n"2" 4 5\n'), {}, [[2, 3.5], [4, 5]], ["1", "2"], ["x", "y"]),
    "windows.csv": (table(lineterminator="\r\n"), {}, A, ROWS, COLUMNS),
    "packed.csv.gz": (lambda path: path.write_bytes(gzip.compress(FRAME.to_csv().encode())), {}, A, ROWS, COLUMNS),
    "latin.csv": (table("latin-1"), {}, A, ROWS, COLUMNS),
    "utf16.csv": (table("utf-16"), {}, A, ROWS, COLUMNS),
    "excels_utf8.csv": (table("utf-8-sig", sep=";"), {}, A, ROWS, COLUMNS),
    "cyrillic.csv": (
        text("Ветер,Давление\n1.5,2\n3,4\n", "cp1251"),
        {"encoding": "cp1251"},
        [[1.5, 2], [3, 4]],
        None,
        ["Ветер", "Давление"],
    ),
    "years.csv": (
        text("station,1990,1991,1992\nA,1.5,2,3\nB,4,5,6\n"),
        {},
        [[1.5, 2, 3], [4, 5, 6]],
        ["A", "B"],
        YEARS,
    ),
    "years_with_gaps.csv": (
        text("station,1990,1995,2000\nA,1,,3\nB,,5,6\n"),
        {"missing": "mean"},
        [[1, 5, 3], [1, 5, 6]],
        ["A", "B"],
        ["1990", "1995", "2000"],
    ),
    "quoted_spaces.csv": (text('n, "x, y", z\na, 1, 2\nb, 3, 4\n'), {}, [[1, 2], [3, 4]], ["a", "b"], ["x, y", "z"]),
    "spectra.csv": (
        text("sample,400,402,404\nx,.5,.25,.5\ny,.75,.5,.75\n"),
        {},
        [[0.5, 0.25, 0.5], [0.75, 0.5, 0.75]],
        ["x", "y"],
        ["400", "402", "404"],
    ),
    "years_alone.csv": (text("1990,1991,1992\n1.5,2,3\n4,5,6\n"), {}, [[1.5, 2, 3], [4, 5, 6]], None, YEARS),
    "wavelengths.csv": (
        text("400,402,404,406,408\n1,5,2,4,4\n"),
        {"header": 1},
        [[1, 5, 2, 4, 4]],
        None,
        ["400", "402", "404", "406", "408"],
    ),
    "numbers_alone.csv": (text("1,2,3\n4,5,6\n7,8,10\n"), {}, [[1, 2, 3], [4, 5, 6], [7, 8, 10]], None, None),
    "text_columns.csv": (
        lambda path: WORDS.to_csv(path, index=False),
        {},
        [[1.5, 1], [4.125, 0]],
        DAYS[:2],
        ["x", "flag"],
    ),
    "preamble.csv": (
        text("Station: X\n\nDate,T\n2020-01-01,3\n2020-01-02,4\n"),
        {"header": 3},
        [[3], [4]],
        DAYS[:2],
        ["T"],
    ),
    "ids.csv": (text("id,x\n7,1.5\n9,2\n"), {}, [[1.5], [2]], ["7", "9"], ["x"]),
    "german.csv": (
        text("Datum;T;p\n01.02.2020;1,5;2\n02.02.2020;2,5;-3,25\n"),
        {},
        [[1.5, 2], [2.5, -3.25]],
        ["01.02.2020", "02.02.2020"],
        ["T", "p"],
    ),
    "of_excel.csv": (text("sep=;\r\nn;x\r\na;1\r\nb;2\r\n;\r\n"), {}, [[1], [2]], ["a", "b"], ["x"]),
    "comment_is_header.csv": (text("#chrom,x,y\nc1,1,2\nc2,3,4\n"), {}, [[1, 2], [3, 4]], ["c1", "c2"], ["x", "y"]),
    "mixed_space.txt": (text('18.0   8\t"a b"\n15.0   9\t"c d"\n'), {}, [[18, 8], [15, 9]], ["a b", "c d"], None),
    "truth.csv": (
        text("x,ok\n1,True\n2,\n3,False\n"),
        {"missing": "mean"},
        [[1, 1], [2, 0.5], [3, 0]],
        None,
        ["x", "ok"],
    ),
    "trailing.csv": (text("a;b;\n1;2;\n3;4;\n"), {}, [[1, 2], [3, 4]], None, ["a", "b"]),
    "titled.xlsx": (titled, {"header": 3}, [[1, 2], [3, 4]], ["x", "y"], ["a", "b"]),
    "repeated_names.csv": (text("x,x,y\n1,2,3\n4,5,6\n"), {}, [[1, 2, 3], [4, 5, 6]], None, ["x", "x", "y"]),
    "line_breaks.csv": (text('name,x\n"a,\nb",1\n"c ""d""",2\n'), {}, [[1], [2]], ["a,\nb", 'c "d"'], ["x"]),
    "gaps.csv": (
        text("n,x,y\na,1,NA\nb,3,4\nc,-999,5\n"),
        {"missing": "mean", "missing_values": ["-999"]},
        [[1, 4.5], [3, 4], [2, 5]],
        ["a", "b", "c"],
        ["x", "y"],
    ),
    "book.xlsx": (excel({"one": FRAME, "two": FRAME * 2}), {"dataset": "two"}, 2 * A, ROWS, COLUMNS),
    "years.xlsx": (excel({"one": pd.DataFrame(A, ROWS, [1990, 1991, 1992])}), {}, A, ROWS, YEARS),
    "words.xlsx": (excel({"one": WORDS}, index=False), {}, [[1.5, 1], [4.125, 0]], DAYS[:2], ["x", "flag"]),
    "frame.parquet": (lambda path: FRAME.to_parquet(path), {}, A, ROWS, COLUMNS),
    "words.parquet": (lambda path: WORDS.to_parquet(path), {}, [[1.5, 1], [4.125, 0]], DAYS[:2], ["x", "flag"]),
    "frame.feather": (lambda path: FRAME.reset_index().to_feather(path), {}, A, ROWS, COLUMNS),
    "survey.dta": (
        lambda path: pd.DataFrame(A, columns=["a", "b", "c"]).to_stata(path, write_index=False),
        {},
        A,
        None,
        ["a", "b", "c"],
    ),
    "array.npy": (lambda path: np.save(path, A), {}, A, None, None),
    "named.npz": (lambda path: np.savez(path, A=A, row_names=ROWS, col_names=COLUMNS), {}, A, ROWS, COLUMNS),
    "one_of_two.npz": (lambda path: np.savez(path, a=A, b=2 * A), {"dataset": "b"}, 2 * A, None, None),
    "sparse.npz": (lambda path: sparse.save_npz(path, sparse.csr_array(A)), {}, A, None, None),
    "counts.mtx": (lambda path: scipy_io.mmwrite(path, sparse.coo_array(A)), {}, A, None, None),
    "counts.mtx.gz": (lambda path: path.write_bytes(gzip.compress(market(A))), {}, A, None, None),
    "matlab.mat": (lambda path: scipy_io.savemat(path, {"A": A, "n": 4, "title": "text"}), {}, A, None, None),
    "sensors.h5": (hdf5(about=np.arange(3), data__T=A), {}, A, None, None),
    "cells.h5ad": (h5ad, {}, A, ROWS, COLUMNS),
    "layers.h5ad": (lambda path: h5ad(path, ["counts"]), {"dataset": "counts"}, 2 * A, ROWS, COLUMNS),
    "cell_ranger.h5": (by_cell_ranger, {}, A, ROWS, COLUMNS),
    "weather.nc": (lambda path: data_array().to_netcdf(path, engine="h5netcdf"), {}, A, DAYS, COLUMNS),
    "old_weather.nc": (lambda path: data_array().to_netcdf(path, engine="scipy"), {}, A, DAYS, COLUMNS),
    "weather.zarr": (lambda path: data_array().to_dataset().to_zarr(path, consolidated=False), {}, A, DAYS, COLUMNS),
    "bare.zarr": (lambda path: zarr.create_array(path, data=A), {}, A, None, None),
    "grey.png": (image("L", GREY), {}, GREY, None, None),
    "grey.tif": (image("L", GREY), {}, GREY, None, None),
}


def written(folder, name, write):
    path = folder / name
    with warnings.catch_warnings(action="ignore"):  # of the packages that write
        write(path)
    return path


def dense(matrix):
    matrix = files.preparing.in_memory(matrix)
    return matrix.toarray() if sparse.issparse(matrix) else matrix


@pytest.mark.parametrize("name", READ)
def test_numbers_and_names_of_an_everyday_file_are_read_right(name, tmp_path):
    write, options, expected, row_names, col_names = READ[name]
    matrix = read_matrix(written(tmp_path, name, write), **options)
    np.testing.assert_array_equal(dense(matrix.A), expected)
    for names, right in ((matrix.row_names, row_names), (matrix.col_names, col_names)):
        assert (None if names is None else names.tolist()) == right
    line = str(matrix)
    assert line.startswith(f"{name}: {len(expected)} rows x {len(expected[0])} columns") and "\n" not in line


def test_forty_kinds_and_more_are_read():
    assert len(READ) >= 40


# name: what writes it, options, what the one sentence says
REFUSED = {
    "cyrillic.csv": (
        text("Ветер,Давление\n1.5,2\n", "cp1251"),
        {},
        r'encoding that can be told, .* try encoding="latin-1"',
    ),
    "misread.csv": (text("a,b\n1,2\n3,é\n", "latin-1"), {"encoding": "ascii"}, r"got no text in ascii; try encoding="),
    "nonsense.csv": (
        text("a,b\n1,2\n"),
        {"encoding": "nix"},
        r"encoding that Python knows, got encoding 'nix'; try enc",
    ),
    "no_text.csv": (
        lambda path: path.write_bytes(bytes(range(1, 128)) * 9),
        {},
        r"must be a text, got bytes that are none",
    ),
    "words.csv": (
        text("a,b\nx,y\nz,w\n"),
        {},
        r"must be a table with columns of numbers, got none in .*; try separator=",
    ),
    "header.csv": (text("x,y\n"), {}, r"at least one line beside column names, got none"),
    "empty.csv": (text(""), {}, r"must be a table with lines of numbers, got none"),
    "unclear.csv": (
        text("400,402,404,406,408\n1,5,2,4,4\n"),
        {},
        r"got 400, 402, 404, 406, .*; try header=1 or header=False",
    ),
    "doses.csv": (
        text("gene,0,5,30,60\nA,1,3,2,4\nB,2,1,4,3\n"),
        {},
        r"clear about its first line, got gene, 0, 5, 30",
    ),
    "numbers_of_samples.csv": (
        text("g,1045,1022\nA,.5,1.5\nB,.5,.2\nC,2.5,1.1\n"),
        {},
        r"got g, 1045, 1022, which may",
    ),
    "spectra.csv": (
        text("s,400,402,404\nx,.5,.25,.5\ny,.75,.5,.25\n"),
        {},
        r"clear about its first line, got s, 400, 4",
    ),
    "mtx_of_one.mtx": (
        lambda path: path.write_bytes(market(A)),
        {"dataset": "a"},
        r"dataset must be left out with a .mtx file",
    ),
    "mat_as.mtx": (lambda path: scipy_io.savemat(path, {"A": A}), {}, r"must be a whole .mtx file"),
    "half.mtx": (
        text("%%MatrixMarket matrix array real symmetric\n2 3\n1\n2\n3\n"),
        {},
        r"symmetric matrix must be square, got 2",
    ),
    "unclear_years.csv": (text("s,1990,1991\nA,1800,1900\n"), {}, r"must be clear about its first line.* header=False"),
    "gap.csv": (
        text("n,x,y\na,1,2\nb,,4\n"),
        {},
        r"1 missing in 1 columns, first in row 'b', column 'x'; try missing=\"drop",
    ),
    "one_word.csv": (
        text("x,y\n1,2\n3,four\n"),
        {},
        r"got 'four' in column 'y', line 3; try missing_values=\[\"four\"\]",
    ),
    "thousands.csv": (text("x;y\n1.234,5;2\n2.000,1;3\n"), {}, r"plain numbers, got '1.234,5' in column 'x', line 2"),
    "percent.csv": (text("x,y\n12 %,2\n13 %,3\n"), {}, r"plain numbers, got '12 %' in column 'x', line 2"),
    "units.csv": (
        text("t,v\ns,m/s\n0,1.5\n1,3\n2,5\n"),
        {},
        r"got 's' in column 't', line 2; try header=2 if that line",
    ),
    "blank_lines.csv": (text("a,b\n\n1,2\n\n3,x\n5,6\n"), {}, r"got 'x' in column 'b', line 5; try missing_values"),
    "brackets.csv": (text("a,b\n(5),2\n(7),3\n"), {}, r"plain numbers, got '\(5\)' in column 'a', line 2"),
    "complex.csv": (text("a,b\n1+2j,2\n3-1j,4\n"), {}, r"plain numbers, got '1\+2j' in column 'a', line 2"),
    "titled.xlsx": (titled, {}, r"got 'a' in column 'column 1', line 3; try header=3 if that line has the names"),
    "ragged.csv": (text("1,2,3\n4,5\n6,7,8\n"), {}, r"got 2 in line 2 and 3 in line 1"),
    "ragged_late.csv": (text("a,b\n" + "1,2\n" * 900 + "1,2,3\n"), {}, r"got .*Expected 2 fields in line 902, saw 3"),
    "preamble.csv": (text("Station: X\n\nDate,T\n2020-01-01,3\n2020-01-02,4\n"), {}, r"2 in line 3; try header=3$"),
    "no_such_column.csv": (
        text("x,y\n1,2\n"),
        {"leave_out": ["z"]},
        r"must be a table with a column 'z', got 'x', 'y'",
    ),
    "constant.csv": (
        text("x,y\n1,2\n1,2\n"),
        {"center": None, "scale": None},
        r"a column that varies.* try scale=False",
    ),
    "all_missing.csv": (text("x,y\n1,NA\n2,NA\n"), {"missing": "mean"}, r"none in 'y'; try missing=\"drop-columns\""),
    "holes.csv": (
        text("x,y\n1,NA\nNA,2\n"),
        {"missing": "drop-rows"},
        r"rows without missing values, .* missing=\"mean\"",
    ),
    "negative.csv": (text("x,y\n1,2\n-3,4\n"), {"log1p": True}, r"above -1 everywhere, for log1p, got -3"),
    "two_sheets.xlsx": (
        excel({"one": FRAME, "two": FRAME}),
        {},
        r"a file of one sheet, got 'one', 'two'; try dataset=\"one\"",
    ),
    "no_sheet.xlsx": (excel({"one": FRAME}), {"dataset": "two"}, r"a file with a sheet 'two', got 'one'"),
    "two.mat": (
        lambda path: scipy_io.savemat(path, {"A": A, "B": A}),
        {},
        r"of one matrix, got 2: A, B; try dataset=\"A\"",
    ),
    "none.mat": (lambda path: scipy_io.savemat(path, {"n": 4}), {}, r"of one matrix, got none"),
    "two.npz": (lambda path: np.savez(path, a=A, b=A), {}, r"got 2 arrays: a, b; try dataset=\"a\""),
    "two.h5": (hdf5(a=A, b=A), {}, r"got 2: a, b; a dataset must be named; try dataset=\"a\""),
    "cells.h5ad": (
        lambda path: h5ad(path, ["counts"]),
        {"dataset": "raw"},
        r"dataset must be one of X, layers/counts, got 'raw'",
    ),
    "old.xls": (text("nothing"), {}, r"got '.xls'; save it as .xlsx$"),
    "of_r.rds": (text("nothing"), {}, r"got '.rds'; in R, write.csv\(x, 'x.csv'\)$"),
    "python.pkl": (text("nothing"), {}, r"got '.pkl'; nothing is unpickled"),
    "matrix": (text("1,2\n"), {}, r"must be one of .npy, .*, got ''; try format=\"csv\""),
    "matrix.npy": (lambda path: np.save(path, A), {"separator": ";"}, r"separator must be left out with a .npy file"),
    "sparse.npz": (
        lambda path: sparse.save_npz(path, sparse.csr_array(A)),
        {"center": True},
        r"center must be left out with a sp",
    ),
    "cube.npy": (
        lambda path: np.save(path, np.ones((2, 2, 2))),
        {"scale": True},
        r"scale must be left out with a tensor",
    ),
    "not_packed.csv.gz": (text("a,b\n1,2\n"), {}, r"must be a whole .gz file"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused_in_one_sentence(name, tmp_path):
    write, options, sentence = REFUSED[name]
    path = written(tmp_path, name, write)
    with pytest.raises(ValueError, match=sentence) as caught:
        read_matrix(path, **options)
    message = str(caught.value)
    assert " must be " in message and ", got " in message and "\n" not in message


def test_what_was_left_out_is_said(tmp_path):
    WORDS.assign(grade=pd.Categorical(["a", "b"])).to_parquet(tmp_path / "words.parquet")
    matrix = read_matrix(tmp_path / "words.parquet", row_names="kind")
    assert "row names from 'kind'; left out: 'day' (dates), 'grade' (categories)" in str(matrix)


def test_kinds_of_columns_that_parquet_has_are_numbers_or_left_out(tmp_path):
    frame = pd.DataFrame(
        {
            "whole": pd.array([1, None, 3], dtype="Int64"),
            "truth": pd.array([True, None, False], dtype="boolean"),
            "small": np.array([1.5, 2.5, 3.5], "f4"),
            "money": [decimal.Decimal("1.50"), decimal.Decimal("2.25"), None],
            "month": pd.period_range("2020-01", periods=3, freq="M"),
            "time": pd.to_timedelta([1, 2, 3], unit="s"),
            "word": ["a", "a", "b"],
        },
        index=pd.Index(["r", "s", "t"], name="site"),
    )
    frame.to_parquet(tmp_path / "a.parquet")
    matrix = read_matrix(tmp_path / "a.parquet", missing="mean")
    np.testing.assert_array_equal(matrix.A, [[1, 1, 1.5, 1.5], [2, 0.5, 2.5, 2.25], [3, 0, 3.5, 1.875]])
    assert matrix.col_names.tolist() == ["whole", "truth", "small", "money"]
    assert matrix.row_names.tolist() == ["r", "s", "t"]
    assert "row names from 'site'; left out: 'month' (period[M]), 'time' (dates), 'word' (text)" in str(matrix)


def test_single_precision_of_a_table_stays(tmp_path):
    FRAME.astype("f4").to_parquet(tmp_path / "a.parquet")
    assert read_matrix(tmp_path / "a.parquet", center=True, scale=True).A.dtype == np.float32


def test_columns_are_left_out_by_name_or_number(tmp_path):
    FRAME.to_csv(tmp_path / "a.csv")
    matrix = read_matrix(tmp_path / "a.csv", leave_out=["wind", 3])
    np.testing.assert_array_equal(matrix.A, A[:, :1])
    assert matrix.col_names.tolist() == COLUMNS[:1] and "'wind' (as asked), 'x, y' (as asked)" in str(matrix)


def test_a_column_that_is_constant_but_for_rounding_is_not_blown_up(tmp_path):
    third = np.nextafter(np.full(4, 0.3, "f4"), np.array([0, 1, 0, 1], "f4"))
    B = np.column_stack([A[:, 0].astype("f4"), third, np.zeros(4, "f4")])
    np.save(tmp_path / "a.npy", B)
    sparse.save_npz(tmp_path / "a.npz", sparse.csr_array(B))
    for name in ("a.npy", "a.npz"):
        matrix = read_matrix(tmp_path / name, scale=True)
        np.testing.assert_allclose(dense(matrix.A), B / [B[:, 0].std(), 1, 1], rtol=1e-6)
        assert "constant, not scaled: '1', '2'" in str(matrix)


def test_any_column_may_hold_the_names_of_rows(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1.5,2\n3,4\n")
    for place in ("y", 1):
        matrix = read_matrix(tmp_path / "a.csv", row_names=place)
        assert matrix.row_names.tolist() == ["2", "4"] and matrix.col_names.tolist() == ["x"]
    (tmp_path / "b.csv").write_text("name,x\n1,2\n3,4\n")
    assert read_matrix(tmp_path / "b.csv", row_names=False).A.shape == (2, 2)


@pytest.mark.parametrize("missing", ["drop-rows", "drop-columns", "mean", "median"])
@pytest.mark.parametrize("ending", [".csv", ".npy"])
def test_gaps_are_left_out_or_filled_as_pandas_does(missing, ending, tmp_path):
    frame = FRAME.where(FRAME != 5.0)
    path = tmp_path / f"a{ending}"
    frame.to_csv(path) if ending == ".csv" else np.save(path, frame)
    right = {
        "drop-rows": frame.dropna(),
        "drop-columns": frame.dropna(axis=1),
        "mean": frame.fillna(frame.mean()),
        "median": frame.fillna(frame.median()),
    }[missing]
    matrix = read_matrix(path, missing=missing)
    np.testing.assert_allclose(matrix.A, right, rtol=1e-15)
    if ending == ".csv":
        assert (matrix.row_names.tolist(), matrix.col_names.tolist()) == (list(right.index), list(right.columns))


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array])
@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "c16", "i4", "?"])
def test_scaled_columns_have_deviation_1_and_centred_ones_mean_0(kind, dtype, tmp_path):
    B = np.random.default_rng(0).integers(0, 3, (30, 5)).astype(dtype)
    path = tmp_path / "a.npz"
    np.savez(path, B) if kind is np.asarray else sparse.save_npz(path, kind(B))
    center = kind is np.asarray
    scaled = dense(read_matrix(path, center=center, scale=True).A)
    expected = (B - B.mean(axis=0) * center) / B.std(axis=0)
    np.testing.assert_allclose(scaled, expected, atol=10 * np.finfo(scaled.dtype).eps)
    assert scaled.dtype == (dtype if dtype[0] in "fc" else "f8")


def test_columns_of_huge_or_tiny_or_constant_numbers_are_scaled_too(tmp_path):
    B = A.copy()
    B[:, 0], B[:, 1], B[:, 2] = A[:, 0] * 1e200, A[:, 0] * 1e-200, [0.3, 0.1 + 0.2, 0.3, 0.3]  # but for rounding
    np.save(tmp_path / "a.npy", B)
    matrix = read_matrix(tmp_path / "a.npy", center=True, scale=True)
    standard = (A[:, 0] - A[:, 0].mean()) / A[:, 0].std()
    np.testing.assert_allclose(matrix.A, np.transpose([standard, standard, 0 * standard]), atol=1e-13)
    assert "constant, not scaled: '2'" in str(matrix)


def test_a_table_of_named_columns_is_standardised_where_that_is_left_open_and_nothing_else(tmp_path):
    FRAME.to_csv(tmp_path / "named.csv")
    FRAME.set_axis([1990, 1991, 1992], axis=1).to_csv(tmp_path / "years.csv")
    np.savetxt(tmp_path / "bare.csv", A, delimiter=",")
    np.save(tmp_path / "array.npy", A)
    matrix = read_matrix(tmp_path / "named.csv", center=None, scale=None)
    np.testing.assert_allclose(matrix.A, (A - A.mean(axis=0)) / A.std(axis=0), atol=1e-14)
    assert "columns centred and scaled to deviation 1" in str(matrix)
    for name in ("years.csv", "bare.csv", "array.npy"):
        np.testing.assert_array_equal(read_matrix(tmp_path / name, center=None, scale=None).A, A)
    np.testing.assert_array_equal(read_matrix(tmp_path / "named.csv").A, A)


def test_a_transposed_table_has_its_rows_scaled_and_its_names_exchanged(tmp_path):
    FRAME.to_csv(tmp_path / "a.csv")
    matrix = read_matrix(tmp_path / "a.csv", transpose=True, center=True)
    np.testing.assert_allclose(matrix.A, A.T - A.T.mean(axis=0), atol=1e-14)
    assert (matrix.row_names.tolist(), matrix.col_names.tolist()) == (COLUMNS, ROWS)


def test_logarithms_of_a_sparse_layer_keep_it_sparse(tmp_path):
    h5ad(tmp_path / "a.h5ad")
    with h5py.File(tmp_path / "a.h5ad", "a") as file:
        file["X/data"][:] = abs(A[A != 0])
    matrix = read_matrix(tmp_path / "a.h5ad", log1p=True)
    assert sparse.issparse(matrix.A) and matrix.row_names.tolist() == ROWS
    np.testing.assert_allclose(matrix.A.toarray(), np.log1p(abs(A)))


def test_colours_are_a_third_mode_and_transparency_is_left_out_and_said(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (4, 6, 4), dtype=np.uint8)
    image("RGBA", colours)(tmp_path / "a.png")
    matrix = read_matrix(tmp_path / "a.png")
    np.testing.assert_array_equal(matrix.A, colours[:, :, :3])
    assert "transparency left out" in str(matrix)


def test_a_tensor_of_a_netcdf_file_has_names_along_each_mode(tmp_path):
    data = data_array((4, 3, 2))
    data.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    matrix = read_matrix(tmp_path / "a.nc")
    np.testing.assert_array_equal(matrix.A, data)
    assert [names.tolist() for names in matrix.names] == [DAYS, COLUMNS, ["10", "20"]]


def test_packed_numbers_of_xarray_are_decoded(tmp_path):
    encoding = {"t": {"dtype": "i2", "scale_factor": 0.125, "_FillValue": -9999}}
    data_array().to_netcdf(tmp_path / "a.nc", engine="h5netcdf", encoding=encoding)
    with warnings.catch_warnings(action="ignore"):
        data_array().to_dataset().to_zarr(tmp_path / "a.zarr", encoding=encoding, consolidated=False)
    for name in ("a.nc", "a.zarr"):
        np.testing.assert_array_equal(read_matrix(tmp_path / name).A, A)


def test_a_matlab_file_of_version_7_3_is_turned_round(tmp_path):
    with h5py.File(tmp_path / "a.mat", "w", userblock_size=512) as file:
        file["A"] = A.T
        file["A"].attrs["MATLAB_class"] = np.bytes_("double")
        file["title"] = np.ones((5, 2), np.uint16)
        file["title"].attrs["MATLAB_class"] = np.bytes_("char")
    with open(tmp_path / "a.mat", "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file")
    np.testing.assert_array_equal(read_matrix(tmp_path / "a.mat").A, A)


@pytest.mark.parametrize(
    "name", ["comma.csv", "packed.csv.gz", "array.npy", "named.npz", "counts.mtx", "book.xlsx", "frame.parquet"]
)
def test_standard_input_is_known_by_how_it_begins(name, tmp_path, monkeypatch):
    write, options, expected, row_names, _ = READ[name]
    content = written(tmp_path, name, write).read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    matrix = read_matrix("-", **options)
    np.testing.assert_array_equal(dense(matrix.A), expected)
    assert str(matrix).startswith("standard input: 4 rows x 3 columns")
    assert (matrix.row_names is None) == (row_names is None)


def test_what_was_unpacked_is_in_memory(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", A)
    (tmp_path / "a.npy.gz").write_bytes(gzip.compress((tmp_path / "a.npy").read_bytes()))
    h5ad(tmp_path / "a.h5ad")
    (tmp_path / "b.h5ad.gz").write_bytes(gzip.compress((tmp_path / "a.h5ad").read_bytes()))
    assert type(read_matrix(tmp_path / "a.npy.gz").A) is np.ndarray
    assert sparse.issparse(read_matrix(tmp_path / "b.h5ad.gz").A)


def test_raw_counts_of_single_cells_have_their_own_genes(tmp_path):
    h5ad(tmp_path / "a.h5ad")
    with h5py.File(tmp_path / "a.h5ad", "a") as file:
        file["raw/X"] = A[:, :2]
        file["raw/var/_index"] = [b"g1", b"g2"]
        file["raw/var"].attrs["_index"] = "_index"
    matrix = read_matrix(tmp_path / "a.h5ad", dataset="raw/X")
    assert matrix.col_names.tolist() == ["g1", "g2"] and matrix.row_names.tolist() == ROWS


def test_another_ending_is_read_by_the_format_that_is_named(tmp_path):
    FRAME.to_csv(tmp_path / "matrix")
    np.testing.assert_array_equal(read_matrix(tmp_path / "matrix", format="csv").A, A)


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.csv"
    FRAME.to_csv(path)
    read = pd.read_csv

    def read_while_it_grows(*args, **options):
        with open(path, "a") as file:
            file.write("e,1,2,3\n")
        return read(*args, **options)

    monkeypatch.setattr(pd, "read_csv", read_while_it_grows)
    with pytest.raises(ValueError, match=r"a.csv must be left alone while it is read, got a file that changed"):
        read_matrix(path)


def test_a_missing_package_is_named_with_the_line_that_brings_it(tmp_path, monkeypatch):
    FRAME.to_csv(tmp_path / "a.csv")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"a table needs pandas: pip install 'curtensor\[files\]'"):
        read_matrix(tmp_path / "a.csv")


def test_the_shipped_example_needs_no_package_beyond_those_of_the_library():
    heavy = ["pandas", "pyarrow", "openpyxl", "xarray", "h5py", "zarr", "PIL"]
    script = (
        f"import sys; sys.modules.update(dict.fromkeys({heavy}));"
        "from curtensor.files import example_matrix, example_tensor;"
        "print(example_matrix().A.shape, example_tensor().shape)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.split("\n")[0] == "(569, 30) (48, 48, 50)"


def test_a_text_whose_sample_ends_between_quotation_marks_is_read(tmp_path):
    lines = "".join(f'"note{n}\nof two lines",{n}.5,{n * n % 7}\n' for n in range(300))
    (tmp_path / "a.csv").write_text(f"note,x,y\n{lines}")
    (tmp_path / "b.csv").write_text(f"#\nnote,x,y\n{lines}")  # cut within
    for name in ("a.csv", "b.csv"):
        matrix = read_matrix(tmp_path / name)
        assert matrix.A.shape == (300, 2) and matrix.row_names[299] == "note299\nof two lines"


def test_a_table_of_many_columns_is_read(tmp_path):
    B = np.random.default_rng(0).standard_normal((6, 3000))
    pd.DataFrame(B, columns=[f"gene {n}" for n in range(3000)]).to_csv(tmp_path / "a.csv")
    matrix = read_matrix(tmp_path / "a.csv")
    np.testing.assert_array_equal(matrix.A, B)
    assert matrix.col_names[2999] == "gene 2999" and matrix.row_names.tolist() == list("012345")
