"""Claims measured: the lines of a table, held or MISSED, and the command that prints it."""

import os
import subprocess
import sys
from typing import NamedTuple

from evidence import pages


class Line(NamedTuple):
    """One figure: what it is, what it should be, what it is here, and whether that is good enough."""

    what: str
    target: str
    measured: str
    held: bool


def at_most(what, target, value, note=""):
    return Line(what, f"<= {target:g}", f"{value:.4g}{note}", bool(value <= target))


def at_least(what, target, value, note=""):
    return Line(what, f">= {target:g}", f"{value:.4g}{note}", bool(value >= target))


def shown(what, measured):
    """A figure without a target."""
    return Line(what, "-", measured, True)


def fresh_process(code, **environment):
    """What a new interpreter prints, with some more environment variables."""
    environment = os.environ | environment
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
    ).stdout


def command(claims, page=None):
    """Exit with the status of `report` on the claims that the command line names; with ``--write`` into a page too."""
    names = [name for name in sys.argv[1:] if name != "--write"]
    sys.exit(report(claims, names, page if "--write" in sys.argv else None))


def report(claims, names, page=None):
    """Print the lines of the claims named, or of all; 1 where one was missed, 2 where a name is unknown.

    Into a page as well, if one is given: each claim is the table of its name there.
    """
    if "--list" in names:
        print("\n".join(f"{name:24}{claim.__doc__}" for name, claim in claims.items()))
        return 0
    unknown = [name for name in names if name not in claims]
    if unknown:
        print(f"claim must be one of {', '.join(claims)}, got {unknown[0]}")
        return 2
    print(blas_in_use())
    missed = 0
    for name in names or claims:
        table = [["figure", "target", "measured", ""]]
        for line in claims[name]():
            verdict = "held" if line.held else "MISSED"
            print(f"{verdict:7}{line.what:76}  {line.target:8}  {line.measured}", flush=True)
            table.append([line.what, line.target, line.measured, "" if line.held else "**missed**"])
            missed += not line.held
        if page is not None:
            pages.rewrite(page, name, table)
    print(f"{missed} missed")
    return int(missed > 0)


def blas_in_use():
    """Which BLAS runs, with which kernels and how many threads."""
    from threadpoolctl import threadpool_info

    form = "{internal_api} {version}, {architecture} kernels, threads: {num_threads}".format_map
    return "; ".join(form({"architecture": "?"} | info) for info in threadpool_info() if info["user_api"] == "blas")
