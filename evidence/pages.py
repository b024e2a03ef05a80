"""Tables of the pages, which scripts write and tests read: each stands between two markers that name it.

    <!-- table: name -->
    | method | error |
    |---|---|
    | cur | 1.2 |
    <!-- end of table: name -->

A table is a list of rows of texts, the head first. The figures behind it are in docs/results/*.csv.
"""

import csv
import io
from pathlib import Path

from curtensor.files import written_whole

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
RESULTS = DOCS / "results"


def between_markers(text, name):
    """Where the table of that name stands in a page."""
    marker = f"<!-- table: {name} -->\n"
    start = text.index(marker) + len(marker)
    return start, text.index(f"<!-- end of table: {name} -->", start)


def rewrite(path, name, table):
    """Put a table in the place of the one of that name in a page."""
    text = Path(path).read_text()
    start, end = between_markers(text, name)
    head, *rows = ["| " + " | ".join(row) + " |\n" for row in table]
    lines = [head, "|" + len(table[0]) * "---|" + "\n", *rows]
    with written_whole(path) as file:
        file.write((text[:start] + "".join(lines) + text[end:]).encode())


def read_table(path, name):
    """The table of that name in a page."""
    text = Path(path).read_text()
    head, _, *rows = text[slice(*between_markers(text, name))].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in (head, *rows)]


def write_results(name, rows):
    """Write rows, each a dict with the same keys, to a file of results."""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with written_whole(RESULTS / f"{name}.csv") as file:
        file.write(text.getvalue().encode())


def read_results(name):
    """The rows of a file of results, all as text; none where there is no such file."""
    path = RESULTS / f"{name}.csv"
    return list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []
