"""Tables by pandas: text, Excel, Parquet, Feather, Stata; numbers apart from names.

pandas reads. What stands here decides which columns hold numbers, and says what became of the others.
"""

import numbers
import warnings

import numpy as np

from curtensor.files.layout import (
    DATE,
    MISSING_TEXTS,
    SAMPLE_LINES,
    column_of_names,
    encoding_and_note,
    header_of,
    is_nearly_number,
    layout_of,
    place_of,
    sample_of,
)
from curtensor.files.matrix import NamedMatrix, Refused, as_texts, package, quoted


def read_text(
    path, *, separator=None, decimal=None, encoding=None, header=None, row_names=None, leave_out=(), missing_values=()
):
    """A table in a text file: what is not said of how it is written is found out, and noted."""
    pandas = package("pandas", "a table")
    with open(path, "rb") as file:
        encoding, notes = encoding_and_note(file, encoding)
        text = sample_of(file, encoding)
        layout = layout_of(text, separator, decimal, header, row_names, [*MISSING_TEXTS, *missing_values])
        file.seek(0)
        with warnings.catch_warnings(action="error", category=pandas.errors.ParserWarning):
            frame = pandas.read_csv(
                file,
                sep=layout.separator,
                decimal=layout.decimal,
                encoding=encoding,
                header=0 if layout.has_header else None,
                names=range(layout.width),
                index_col=False,
                skiprows=layout.skipped,
                dtype={} if layout.place is None else {layout.place: str},
                na_values={n: layout.missing_texts for n in range(layout.width) if n != layout.place},
                keep_default_na=False,
                skipinitialspace=True,
                low_memory=False,
                **exactly(pandas),
            )
    return numbers_of(frame, layout.names, layout.place, leave_out, notes + layout.notes, layout.lines)


def exactly(pandas):
    """What makes pandas read numbers to the last digit, as from 3.1 on it does by itself."""
    version = tuple(map(int, pandas.__version__.split(".")[:2]))
    return {"float_precision": "round_trip"} if version < (3, 1) else {}


def numbers_of(frame, names, place, leave_out, notes, lines):
    """The columns of a frame that hold numbers, named, and notes of the others."""
    pandas, width = package("pandas", "a table"), frame.shape[1]
    frame, notes = without_empty_rows(frame, place, list(notes))
    labels = [own or f"column {n}" for n, own in enumerate(names or [""] * width)]
    unwanted = {place_of(column, names, width) for column in leave_out} - {None}
    kept, kinds = [], {}
    for column in range(width):
        if column == place or column in unwanted:
            continue
        series = frame.iloc[:, column]
        kind = kind_of_column(series, labels[column], lines)
        if kind == "empty" and names is not None and not names[column]:
            continue
        if kind in ("numbers", "empty"):
            kept.append(column)
        else:
            kinds[column] = kind
    if place is not None:
        notes.append(f"row names from {repr(names[place]) if names and names[place] else f'column {place}'}")
    if unwanted or kinds:
        parts = [f"{labels[n]!r} ({kinds.get(n, 'as asked')})" for n in sorted(unwanted | kinds.keys())]
        notes.append(f"left out: {', '.join(parts[:8])}{f' and {len(parts) - 8} more' if len(parts) > 8 else ''}")
    if not len(frame):
        raise Refused("a table with at least one line beside column names", "none")
    if not kept:
        raise Refused("a table with columns of numbers", f"none in {quoted(labels)}", "separator= or decimal=")
    A = as_array(frame.iloc[:, kept])
    row_names = None if place is None else as_texts(pandas.Index(frame.iloc[:, place]))
    col_names = None if names is None else as_texts([labels[column] for column in kept])
    return NamedMatrix(A, (row_names, col_names), notes=tuple(notes), table=True)


def without_empty_rows(frame, place, notes):
    """A frame without rows in which there is nothing, and a note of how many these are."""
    gaps = frame.isna()
    if place is not None:
        gaps[place] |= frame[place] == ""
    empty = gaps.all(axis=1).to_numpy()
    return (frame[~empty], [*notes, f"empty lines left out: {empty.sum()}"]) if empty.any() else (frame, notes)


def kind_of_column(series, label, lines):
    """What a column holds: "numbers", or what it is that is none; raises where some of it are numbers."""
    import pandas as pd

    if pd.api.types.is_bool_dtype(series.dtype) and not isinstance(series.dtype, pd.CategoricalDtype):
        return "numbers"
    if isinstance(series.dtype, pd.CategoricalDtype):
        return "categories"
    if pd.api.types.is_numeric_dtype(series.dtype):
        return "empty" if series.isna().all() else "numbers"
    if pd.api.types.is_datetime64_any_dtype(series.dtype) or pd.api.types.is_timedelta64_dtype(series.dtype):
        return "dates"
    if not (pd.api.types.is_object_dtype(series.dtype) or pd.api.types.is_string_dtype(series.dtype)):
        return str(series.dtype)
    there = series.dropna()
    if not len(there):
        return "empty"
    if all(isinstance(value, (np.bool_, numbers.Number)) for value in there):
        return "numbers"
    is_read = pd.to_numeric(there, errors="coerce").notna().to_numpy()
    nearly = is_read | np.array([is_nearly_number(str(value)) for value in there])
    if 2 * nearly.sum() >= len(there):
        bad = int(np.flatnonzero(~is_read)[0]) if not is_read.all() else 0
        raise no_number(str(there.iloc[bad]), there.index[bad], label, lines)
    return "dates" if DATE.fullmatch(str(there.iloc[0])) else "text"


def no_number(text, row, label, lines):
    """The exception for a text among numbers, in one row of a column."""
    line = lines[row] if row < len(lines) else row - len(lines) + 1 + (lines[-1] if lines else 0)
    remedy = f'missing_values=["{text}"] if that means a gap, leave_out=["{label}"] or row_names="{label}"'
    if row == 0 and not is_nearly_number(text):
        remedy = f"header={line} if that line has the names of columns, {remedy}"
    return Refused("a table of plain numbers", f"{text!r} in column {label!r}, line {line}", remedy)


def as_array(frame):
    """Numbers of several columns as one array, gaps as NaN."""
    dtypes = set(frame.dtypes)
    if all(isinstance(dtype, np.dtype) and dtype.kind in "biufc" for dtype in dtypes):
        return frame.to_numpy(dtype=np.result_type(*dtypes))
    return frame.to_numpy(dtype=float, na_value=np.nan)


def read_parquet(path, *, row_names=None, leave_out=()):
    """A table in a Parquet file."""
    package("pyarrow", "a Parquet file")
    return of_frame(package("pandas", "a table").read_parquet(path), row_names, leave_out)


def read_feather(path, *, row_names=None, leave_out=()):
    """A table in a Feather (Arrow) file."""
    package("pyarrow", "a Feather file")
    return of_frame(package("pandas", "a table").read_feather(path), row_names, leave_out)


def read_stata(path, *, row_names=None, leave_out=()):
    """A table in a Stata file."""
    return of_frame(package("pandas", "a table").read_stata(path), row_names, leave_out)


def of_frame(frame, row_names, leave_out):
    """The numbers of a DataFrame, with the names of its columns, and of its rows by its index or a column of texts."""
    names, index = as_texts(frame.columns).tolist(), frame.index
    frame = frame.set_axis(range(frame.shape[1]), axis=1).reset_index(drop=True)
    if row_names is not None:
        place = place_of(row_names, names, len(names))
    elif index.dtype == int and index.equals(frame.index):
        kinds = [kind_of_column(frame[column], names[column], []) for column in frame]
        place = next((n for n, kind in enumerate(kinds) if kind in ("text", "dates") and frame[n].is_unique), None)
    else:
        place = frame.shape[1]
        frame[place], names = as_texts(index), [*names, str(index.name or "index")]
    return numbers_of(frame, names, place, leave_out, [], [])


def read_excel(path, *, dataset=None, header=None, row_names=None, leave_out=(), missing_values=()):
    """A sheet of an Excel file."""
    package("openpyxl", "an Excel file")
    pandas = package("pandas", "a table")
    with warnings.catch_warnings(action="ignore"), pandas.ExcelFile(path, engine="openpyxl") as book:
        names = [dataset] if dataset in book.sheet_names else book.sheet_names
        sheets = {name: book.parse(name, header=None, dtype=object, keep_default_na=False) for name in names}
        sheets = {name: sheet for name, sheet in sheets.items() if not sheet.empty}
    if dataset is not None and dataset not in sheets:
        raise Refused(f"a file with a sheet {dataset!r}", quoted(list(sheets)))
    if len(sheets) != 1:
        remedy = f'dataset="{next(iter(sheets))}"' if sheets else ""
        raise Refused("a file of one sheet", quoted(list(sheets)) or "none", remedy)
    sheet = next(iter(sheets.values()))
    skipped = (header or 1) - 1
    sheet = sheet.mask(sheet == "").iloc[skipped:].dropna(how="all").dropna(axis=1, how="all")
    rows = [["" if pandas.isna(value) else str(value) for value in row] for row in sheet.head(SAMPLE_LINES).to_numpy()]
    columns = header_of(rows, header, ".", MISSING_TEXTS)
    start = int(columns is not None)
    if len(sheet) == start:
        raise Refused("a table with at least one line beside column names", "none")
    place = column_of_names(rows[start:], columns, row_names, ".", MISSING_TEXTS)
    body = sheet.iloc[start:].reset_index(drop=True).set_axis(range(sheet.shape[1]), axis=1)
    gaps = body.isin([*MISSING_TEXTS, *missing_values])
    if place is not None:
        gaps[place] = False
    body = body.mask(gaps).infer_objects()
    notes = [f"sheet {next(iter(sheets))!r}"] if len(book.sheet_names) > 1 else []
    lines = [int(line) + 1 for line in sheet.index]
    notes += [f"column names from line {lines[0]}"] * start
    return numbers_of(body, columns, place, leave_out, notes, lines[start:])
