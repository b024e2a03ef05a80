"""Tables by pandas: text with any separator, Excel, Parquet, Feather, Stata; numbers apart from names.

pandas reads. What stands here decides what pandas must be told: how a text is written, which line and which column hold
names, and which columns hold no numbers.
"""

import codecs
import contextlib
import csv
import dataclasses
import io
import itertools
import re
import warnings
from typing import NamedTuple

import numpy as np

from curtensor.files.matrix import NamedMatrix, Refused, as_texts, package, quoted

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", r"\s+": "spaces"}
MISSING_TEXTS = ["", "NA", "N/A", "n/a", "NaN", "nan", "-nan", "null", "NULL", "None", "<NA>", "#N/A", "#NA", "NaT"]
TRUTHS = {"true", "false"}
SAMPLE_BYTES, SAMPLE_LINES, SAMPLE_LEAST = 2**18, 200, 8
BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
NUMBER = {
    decimal: re.compile(rf"[+-]?(\d+({point}\d*)?|{point}\d+)([eE][+-]?\d+)?|[+-]?(inf|infinity)", re.IGNORECASE)
    for decimal, point in {".": r"\.", ",": ","}.items()
}
DATE = re.compile(r"\d{4}-\d\d?-\d\d?([T ].*)?|\d\d?([./-])\d\d?\2\d{2,4}(\s.*)?")
NEARLY_NUMBER = re.compile(r"[<>~≤≥]?\s*[+-]?[\d.,' ]*\d[\d.,' ]*\s*[%€$£]?")  # 12 %, 1.234,5, <0.01
COUNTS = {"id", "index", "idx", "no", "no.", "nr", "nr.", "number", "year", "row", "sample", "unnamed: 0"}


class Layout(NamedTuple):
    """How a table is written, and where its names are."""

    separator: str
    decimal: str
    skipped: int  # lines above the table
    has_header: bool
    names: list[str] | None  # of all columns
    width: int
    place: int | None  # of the column with the names of rows
    missing_texts: list[str]
    notes: list[str]


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
    first_line = layout.skipped + 1 + layout.has_header
    return numbers_of(frame, layout.names, layout.place, leave_out, notes + layout.notes, first_line)


def exactly(pandas):
    """What makes pandas read numbers to the last digit, as from 3.1 on it does by itself."""
    version = tuple(map(int, pandas.__version__.split(".")[:2]))
    return {"float_precision": "round_trip"} if version < (3, 1) else {}


def layout_of(text, separator, decimal, header, row_names, missing_texts):
    """The `Layout` of a table that begins with a text; raises where something must be said."""
    skipped, comment = comment_lines(text)
    skipped = header - 1 if header else skipped
    lines = sample_lines(text, skipped)
    separator, decimal = way_of_writing(lines, separator, decimal)
    rows = cells(lines, separator)
    columns, has_header = header_of(rows, header, decimal, missing_texts), True
    if columns is None:
        columns, has_header = names_in_comment(comment, rows, separator), False
    width = same_width(rows, has_header, numbers_of_lines(lines, separator, skipped), separator)
    names = None if columns is None else [""] * (width - len(columns)) + columns
    place = column_of_names(rows[has_header:], names, row_names, decimal, missing_texts)
    notes = [] if separator == "," else [f"separated by {SEPARATORS.get(separator, separator)}"]
    notes += ["decimal commas"] * (decimal == ",")
    notes += [f"column names from line {skipped + has_header}"] * (columns is not None)
    return Layout(separator, decimal, skipped, has_header, names, width, place, missing_texts, notes)


def encoding_and_note(file, given):
    """The encoding of a text and a note of it: what is given, or else found out."""
    start = file.read(SAMPLE_BYTES)
    if given is not None:
        with contextlib.suppress(LookupError):
            return codecs.lookup(given).name, []
        raise Refused("of an encoding that Python knows", f"encoding {given!r}", 'encoding="latin-1"')
    encoding = encoding_by_start(start)
    if encoding != "utf-8":
        return encoding, [f"encoding {encoding}"] * (encoding != "utf-8-sig")
    if is_utf8(itertools.chain([start], iter(lambda: file.read(SAMPLE_BYTES), b""))):
        return encoding, []
    text = start.decode("cp1252", errors="replace")
    letters = [character for character in text if character.isalpha()]
    foreign = sum(not letter.isascii() for letter in letters)
    if "\ufffd" in text or 3 * foreign > len(letters):  # as in no language of western Europe
        raise encoding_unknown("none that can be told")
    return "cp1252", ["encoding Windows-1252 by guess (encoding= says another)"]


def sample_of(file, encoding):
    """The first lines of a text."""
    file.seek(0)
    start = more = file.read(SAMPLE_BYTES)
    while more and start.count(b"\n") + start.count(b"\r") < SAMPLE_LEAST:  # of very long lines
        start += (more := file.read(SAMPLE_BYTES))
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(start, final=len(more) < SAMPLE_BYTES)
    except UnicodeDecodeError:
        raise encoding_unknown(f"no text in {encoding}") from None
    if any(character < " " and character not in "\t\n\r\f\v" for character in text):
        raise Refused("a text", "bytes that are none", 'encoding="utf-16", or a format= of another kind')
    return text


def encoding_by_start(start):
    """The encoding of a text by its first bytes: a mark, zeros of UTF-16, or else UTF-8 until it is found not to be."""
    for mark, encoding in sorted(BOMS.items(), key=lambda entry: -len(entry[0])):
        if start.startswith(mark):
            return encoding
    for first, encoding in ((0, "utf-16-be"), (1, "utf-16-le")):
        if start[first::2].count(0) > len(start) / 6:
            return encoding
    return "utf-8"


def is_utf8(parts):
    """Whether bytes in several parts are UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for part in parts:
            decoder.decode(part)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def encoding_unknown(got):
    """The exception for a text whose encoding must be said."""
    return Refused("of an encoding that can be told", got, 'encoding="latin-1", cp1251, shift_jis or which it is')


def comment_lines(text):
    """How many lines at the start begin with #, and the fields of the last of them."""
    lines = list(itertools.takewhile(lambda line: line.startswith("#"), io.StringIO(text)))
    return len(lines), lines[-1].lstrip("#").strip() if lines else ""


def sample_lines(text, skipped):
    """Some whole lines of a text after those skipped."""
    lines = list(itertools.islice(io.StringIO(text, newline=""), skipped, skipped + SAMPLE_LINES))
    return lines[:-1] if 4 * len(text) >= SAMPLE_BYTES and len(lines) > 2 else lines  # the last may be cut off


def cells(lines, separator):
    """The fields of some lines of a text."""
    if separator == r"\s+":
        return [
            list(row)
            for line in lines
            if (row := next(csv.reader([line.strip()], delimiter=" ", skipinitialspace=True), []))
        ]
    return [[field.strip() for field in row] for row in csv.reader(lines, delimiter=separator, strict=True) if any(row)]


def numbers_of_lines(lines, separator, skipped):
    """Which line of the file each row of `cells` ends in, counted from 1."""
    if separator == r"\s+":
        return [skipped + number for number, line in enumerate(lines, 1) if line.strip()]
    reader = csv.reader(lines, delimiter=separator)
    return [skipped + reader.line_num for row in reader if any(row)]


def way_of_writing(lines, separator, decimal):
    """The separator and decimal by which most fields are numbers, where not given."""
    separators = SEPARATORS if separator is None else [separator]
    found = []
    for sep, point in itertools.product(separators, NUMBER if decimal is None else [decimal]):
        try:
            fields = [field for row in cells(lines, sep) for field in row if field]
        except csv.Error:
            continue
        texts = [field for field in fields if not reads_as_number(field, point)]
        unsplit = sum(any(other in field for other in ",;\t|") for field in texts)
        found.append((1 - (len(texts) + unsplit) / max(len(fields), 1), len(fields), sep, point))
    if not found:
        raise Refused("a table of fields between separators", "quotation marks that do not end", 'separator=";"')
    return max(found, key=lambda entry: entry[:2])[2:]


def reads_as_number(field, decimal):
    """Whether a field is a number as the table writes it."""
    return NUMBER[decimal].fullmatch(field) is not None


def header_of(rows, header, decimal, missing_texts):
    """The first of the rows if it holds the names of columns, else None; raises where that must be said."""
    if not rows:
        raise Refused("a table with lines of numbers", "none")
    first, body = rows[0], rows[1:]
    if header is not None:
        return first if header else None
    if first[0] == "" or not any(reads_as_number(field, decimal) or field in missing_texts for field in first):
        return first
    for column, field in enumerate(first):
        beneath = [row[column] for row in body[:20] if column < len(row)]
        if not is_like_number(field, decimal, missing_texts) and any(
            reads_as_number(other, decimal) for other in beneath
        ):
            return first
    return numbers_as_header(first, body, decimal)


def names_in_comment(comment, rows, separator):
    """The fields of the last comment above a table if they are as many as its columns, as of numpy.savetxt."""
    fields = (cells([comment], separator) or [[]])[0]
    return fields if len(fields) == len(rows[0]) else None


def is_like_number(field, decimal, missing_texts):
    """Whether a field is a number, a truth value or missing."""
    return reads_as_number(field, decimal) or field.lower() in TRUTHS or field in missing_texts


def numbers_as_header(first, body, decimal):
    """The first line where its numbers are years or even steps unlike all others; raises where that may be chance."""
    numbers = [(column, field) for column, field in enumerate(first) if reads_as_number(field, decimal)]
    values = [float(field.replace(",", ".")) for _, field in numbers]
    below = [
        [float(row[column].replace(",", ".")) for column, _ in numbers]
        for row in body
        if all(column < len(row) and reads_as_number(row[column], decimal) for column, _ in numbers)
    ]
    has_corner = len(numbers) == len(first) - 1 and numbers[0][0] == 1
    alike = [are_years(values), are_even_steps(values)]
    unlike_others = [
        kind and below and not any(test(row) for row in below)
        for kind, test in zip(alike, (are_years, are_even_steps), strict=True)
    ]
    if (has_corner or len(values) > 1) and unlike_others[0]:
        return first
    if has_corner and unlike_others[1]:
        return first
    shown = ", ".join(first[:4]) + (", ..." if len(first) > 4 else "")
    got = f"{shown}, which may be names or numbers"
    if (has_corner and alike[0] and below) or (len(values) >= 5 and unlike_others[1]):
        raise Refused("clear about its first line", got, "header=1 or header=False")
    return None


def are_years(values):
    """Whether numbers are rising whole numbers between 1500 and 2200."""
    years = all(value == int(value) and 1500 <= value <= 2200 for value in values if np.isfinite(value))
    return years and all(np.isfinite(values)) and bool((np.diff(values) > 0).all())


def are_even_steps(values):
    """Whether three numbers or more rise or fall by equal steps."""
    steps = np.diff(values)
    return len(steps) >= 2 and steps[0] != 0 and bool(np.allclose(steps, steps[0], rtol=1e-6, atol=0))


def same_width(rows, has_header, lines, separator):
    """How many fields each row has; raises where they are not equally many."""
    if len(rows) == has_header:
        raise Refused("a table with at least one line beside column names", "none")
    widths = [len(row) for row in rows]
    width = max(set(widths[has_header:]), key=widths.count)
    if has_header and widths[0] == width - 1 and separator in ("\t", r"\s+"):  # as R's write.table has it
        widths[0] = width
    if set(widths) != {width}:
        begin, odd = widths.index(width), next(n for n, own in enumerate(widths) if own != width)
        got = f"{widths[odd]} in line {lines[odd]} and {width} in line {lines[begin]}"
        remedy = f"header={lines[begin]}" if begin else 'separator=";" if it is another'
        raise Refused("a table with equally many fields in each line", got, remedy)
    return width


def column_of_names(rows, names, wanted, decimal, missing_texts):
    """Which column holds the names of rows: the wanted; else one without a header, or of texts, or that counts."""
    columns = list(zip(*rows, strict=True))
    if wanted is not None:
        return place_of(wanted, names, len(columns))
    is_text = [is_column_of_text(column, decimal, missing_texts) for column in columns]
    distinct = [len(set(column)) == len(column) for column in columns]
    if names is not None and names[0] == "" and len(columns) > 1:
        return 0
    for column in range(len(columns)):
        if is_text[column] and distinct[column] and len(columns) > 1:
            return column
    counts = names is not None and names[0].lower() in COUNTS and distinct[0] and not is_text[0] and len(columns) > 1
    return 0 if (is_text[0] and len(columns) > 1) or counts else None


def is_column_of_text(column, decimal, missing_texts):
    """Whether a column holds texts: no numbers, nor what may be meant as such."""
    there = [field for field in column if field not in missing_texts]
    numbers = sum(is_like_number(field, decimal, ()) or NEARLY_NUMBER.fullmatch(field) is not None for field in there)
    return 2 * numbers < len(there)


def place_of(wanted, names, width):
    """The number of a column that is named, or counted from 0; None for False."""
    if wanted is False:
        return None
    text = str(wanted)
    if names is not None and text in names:
        return names.index(text)
    if text.isdecimal() and int(text) < width:
        return int(text)
    raise Refused(f"a table with a column {text!r}", quoted(names) if names is not None else f"{width} columns")


def numbers_of(frame, names, place, leave_out, notes, first_line):
    """The columns of a frame that hold numbers, named, and notes of the others."""
    pandas, width = package("pandas", "a table"), frame.shape[1]
    labels = [own or f"column {n}" for n, own in enumerate(names or [""] * width)]
    unwanted = {place_of(column, names, width) for column in leave_out} - {None}
    kept, kinds = [], {}
    for column in range(width):
        if column == place or column in unwanted:
            continue
        series = frame.iloc[:, column]
        kind = kind_of_column(series, labels[column], first_line)
        if kind == "empty" and names is not None and not names[column]:
            continue
        if kind in ("numbers", "empty"):
            kept.append(column)
        else:
            kinds[column] = kind
    notes = list(notes)
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


def kind_of_column(series, label, first_line):
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
    there = series.dropna()
    if not len(there):
        return "empty"
    if all(isinstance(value, (bool, np.bool_)) for value in there):
        return "numbers"
    numbers = pd.to_numeric(there, errors="coerce").notna().to_numpy()
    nearly = numbers | np.array([NEARLY_NUMBER.fullmatch(str(value)) is not None for value in there])
    if 2 * nearly.sum() >= len(there):
        bad = int(np.flatnonzero(~numbers)[0]) if not numbers.all() else 0
        got = f"{str(there.iloc[bad])!r} in column {label!r}, line {there.index[bad] + first_line}"
        remedy = (
            f'missing_values=["{there.iloc[bad]}"] if that means a gap, leave_out=["{label}"] or row_names="{label}"'
        )
        raise Refused("a table of plain numbers", got, remedy)
    return "dates" if DATE.fullmatch(str(there.iloc[0])) else "text"


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
    """The numbers of a DataFrame, and names of its index and columns."""
    import pandas as pd

    names = as_texts(frame.columns).tolist()
    frame, index = frame.set_axis(range(frame.shape[1]), axis=1), frame.index
    columns = range(frame.shape[1])
    if row_names is not None:
        place = place_of(row_names, names, len(names))
    else:
        is_text = [kind_of_column(frame[column], names[column], 0) in ("text", "dates") for column in columns]
        found = [column for column in columns if is_text[column] and frame[column].is_unique]
        place = found[0] if found and isinstance(index, pd.RangeIndex) else None
    matrix = numbers_of(frame, names, place, leave_out, [], 1)
    if place is None and not isinstance(index, pd.RangeIndex):
        return dataclasses.replace(
            matrix, names=(as_texts(index), matrix.col_names), notes=(*matrix.notes, "named rows")
        )
    return matrix


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
    notes += [f"column names from line {skipped + 1}"] * start
    return numbers_of(body, columns, place, leave_out, notes, skipped + start + 1)
