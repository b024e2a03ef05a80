"""How tables of text are written: encoding, separator, decimal, and the line and the column that hold names."""

import codecs
import contextlib
import csv
import io
import itertools
import re
from typing import NamedTuple

import numpy as np

from curtensor.files.matrix import Refused, quoted

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
NEARLY_NUMBER = re.compile(  # 12 %, 1.234,5, <0.01, (5), and complex numbers
    r"[<>~≤≥]?\s*[(+\u2212-]?[\d.,' ]*\d[\d.,' ]*\s*[%€$£)]?|[+-]?[\d.]+(e[+-]?\d+)?([+-][\d.]+(e[+-]?\d+)?)?[ij]"
)
IS_ABOVE = re.compile(r"#|sep=.\s*$")
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
    lines: list[int]  # in which the first rows end
    missing_texts: list[str]
    notes: list[str]


def layout_of(text, separator, decimal, header, row_names, missing_texts):
    """The `Layout` of a table that begins with a text; raises where something must be said."""
    skipped, comment = lines_above(text)
    skipped = header - 1 if header else skipped
    lines = sample_lines(text, skipped)
    separator, decimal = way_of_writing(lines, separator, decimal)
    rows = cells(lines, separator)
    columns, has_header = header_of(rows, header, decimal, missing_texts), True
    if columns is None:
        columns, has_header = None if header is False else names_in_comment(comment, rows, separator), False
    numbers = [skipped + number for number, _ in rows_of(lines, separator)]
    width = same_width(rows, has_header, numbers, separator)
    names = None if columns is None else [""] * (width - len(columns)) + columns
    place = column_of_names(rows[has_header:], names, row_names, decimal, missing_texts)
    notes = [] if separator == "," else [f"separated by {SEPARATORS.get(separator, separator)}"]
    notes += ["decimal commas"] * (decimal == ",")
    notes += [f"column names from line {numbers[0] if has_header else skipped}"] * (columns is not None)
    lines_of_rows = numbers[has_header:]
    return Layout(separator, decimal, skipped, has_header, names, width, place, lines_of_rows, missing_texts, notes)


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


def lines_above(text):
    """How many lines at the start are comments or Excel's `sep=;`, and the fields of the last comment."""
    lines = list(itertools.takewhile(IS_ABOVE.match, io.StringIO(text)))
    return len(lines), lines[-1].lstrip("#").strip() if lines and lines[-1].startswith("#") else ""


def sample_lines(text, skipped):
    """Some whole lines of a text after those skipped."""
    lines = list(itertools.islice(io.StringIO(text, newline=""), skipped, skipped + SAMPLE_LINES))
    return lines[:-1] if 4 * len(text) >= SAMPLE_BYTES and len(lines) > 2 else lines  # the last may be cut off


def cells(lines, separator):
    """The fields of some lines of a text, blank lines left out."""
    return [fields for _, fields in rows_of(lines, separator)]


def rows_of(lines, separator):
    """Fields and the number of the line, from 1, in which they end; as far as these lines have whole rows."""
    if separator == r"\s+":
        lines, separator = [" ".join(line.split()) for line in lines], " "
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True)
    with contextlib.suppress(csv.Error):  # of lines that end between quotation marks
        for row in reader:
            if len(row) > 1 or (row and row[0].strip()):
                yield reader.line_num, [field.strip() for field in row]


def way_of_writing(lines, separator, decimal):
    """The separator and decimal by which most fields are numbers, where not given."""
    separators = SEPARATORS if separator is None else [separator]
    found = []
    for sep, point in itertools.product(separators, NUMBER if decimal is None else [decimal]):
        rows = list(rows_of(lines, sep))
        fields = [field for _, row in rows for field in row if field]
        texts = [field for field in fields if not reads_as_number(field, point)]
        unsplit = sum(any(other in field for other in ",;\t|") for field in texts)
        share = 1 - (len(texts) + unsplit) / max(len(fields), 1)
        found.append((share * rows[-1][0] if rows else 0, len(fields), sep, point))  # by how far it is read
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
    if first[0] == "" or not any(field and is_like_number(field, decimal, missing_texts) for field in first):
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
    columns = [column for column, field in enumerate(first) if reads_as_number(field, decimal)]
    values, *below = [numbers_at(columns, row, decimal) for row in (first, *body)]
    below = [row for row in below if row]
    has_corner = columns == [*range(1, len(first))]

    def alone(test):
        return test(values) and below and not any(map(test, below))

    if (has_corner or len(values) > 1) and alone(are_years):
        return first
    if has_corner and alone(are_even_steps):
        return first
    if has_corner:  # names of rows, or a header
        tests = [are_years, are_even_steps, are_whole] + [are_monotone] * (len(values) > 2)
        is_unclear = len(values) > 1 and any(test(values) and not all(map(test, below)) for test in tests)
        is_unclear = is_unclear or are_years(values)
    else:
        has_whole = any(are_whole([value]) for row in below for value in row)
        is_unclear = (len(values) > 4 and alone(are_monotone)) or (
            len(below) > 2 and are_whole(values) and not has_whole
        )
    if is_unclear:
        got = ", ".join(first[:4]) + (", ..." if len(first) > 4 else "")
        raise Refused("clear about its first line", f"{got}, which may be names or numbers", "header=1 or header=False")
    return None


def numbers_at(columns, row, decimal):
    """The numbers that a row has in some columns."""
    fields = [row[column] for column in columns if column < len(row)]
    return [float(field.replace(",", ".")) for field in fields if reads_as_number(field, decimal)]


def are_years(values):
    """Whether numbers are whole ones in order between 1500 and 2200."""
    return are_whole(values) and are_monotone(values) and min(values) >= 1500 and max(values) <= 2200


def are_even_steps(values):
    """Whether three numbers or more rise or fall by equal steps."""
    steps = np.diff(values)
    return len(steps) >= 2 and are_monotone(values) and bool(np.allclose(steps, steps[0], rtol=1e-6, atol=0))


def are_monotone(values):
    """Whether numbers rise, or fall, from each to the next."""
    steps = np.diff(values)
    return bool((steps > 0).all() or (steps < 0).all())


def are_whole(values):
    """Whether all numbers are whole."""
    return bool((np.mod(values, 1) == 0).all())


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
    numbers = sum(is_like_number(field, decimal, ()) or is_nearly_number(field) for field in there)
    return 2 * numbers < len(there)


def is_nearly_number(field):
    """Whether a text is meant as a number, written in a way that is not read."""
    return NEARLY_NUMBER.fullmatch(field) is not None and DATE.fullmatch(field) is None


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
