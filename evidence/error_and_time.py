"""docs/evidence.md out of asv's own results: ``python -m evidence.error_and_time``, after ``python -m benchmarks.run``.

Writes docs/results/evidence.csv from the newest results, then the tables of the page from that file; ``--keep`` leaves
the file as it is. The pictures are drawn from it when the site is built. Needs matplotlib.
"""

import ast
import functools
import math
import sys

from benchmarks import bench_tensors, common
from benchmarks.run import figures, newest_results
from benchmarks.tensors import HOSTILE, RANDOM, REAL, SMOOTH
from evidence import pages, pictures

PAGE = pages.ROOT / "docs" / "evidence.md"
PICTURES = pages.ROOT / "docs" / "pictures"
# name in the table -> the benchmarks it is taken from
SUITES = {
    "matrices": "bench_matrices.Matrices",
    "tensors": "bench_tensors.Tensors",
    "entries": "bench_tensors.Entries",
}
DEFAULTS = ("columns, osinsky", "CUR", "randomized_svd, block_krylov", "tensor CUR", "st_hosvd, auto")
DEFAULTS += ("tensor CUR of a function",)  # whose points are named in any case
PEER_COLUMNS = [name for name in common.COLUMNS if not name.startswith("columns, ")]
PEER_CURS = [name for name in common.CURS if not name.startswith("CUR")] + ["CUR, pivoted QR of a sketch"]


def recorded(results):
    """Rows of the table: what asv recorded of each method on each family."""
    for suite, benchmark in SUITES.items():
        tracks = {name: figures(results, f"{benchmark}.track_{name}") for name in ("seconds", "error")}
        if suite == "entries":
            tracks["entries_read"] = figures(results, f"{benchmark}.track_entries_read")
        for key in tracks["seconds"]:
            found = {name: track[key] for name, track in tracks.items()}
            if not any(value is None or math.isnan(value) for value in found.values()):
                method, family = map(ast.literal_eval, key)
                texts = {name: f"{value:.4g}" for name, value in found.items()}
                yield {"suite": suite, "family": family, "method": method, "entries_read": ""} | texts


def read(suite):
    """The table's figures of a suite: ``{family: {method: {name: figure}}}``."""
    found = {}
    for row in pages.read_results("evidence"):
        if row["suite"] == suite:
            values = {name: float(row[name]) for name in ("seconds", "error", "entries_read") if row[name]}
            found.setdefault(row["family"], {})[row["method"]] = values
    return found


# ---- tables


def shown(found):
    return f"{found['error']:.4g}, {1000 * found['seconds']:.3g} ms"


def better(found, ours, peers):
    """The peers that are both faster and more accurate than ours, with their figures."""
    own = found[ours]
    ahead = [
        f"{peer} ({shown(found[peer])})"
        for peer in peers
        if peer in found and found[peer]["error"] < own["error"] and found[peer]["seconds"] < own["seconds"]
    ]
    return "; ".join(ahead) or "none"


def matrix_table():
    """Our defaults on each family, and the peers ahead of them in both time and error."""
    head = ["family", "our columns", "peers ahead of them", "our CUR", "peers ahead of it", "randomized SVD"]
    rows = [
        [
            family,
            shown(found["columns, osinsky"]),
            better(found, "columns, osinsky", PEER_COLUMNS),
            shown(found["CUR"]),
            better(found, "CUR", PEER_CURS),
            shown(found["randomized_svd, block_krylov"]),
        ]
        for family, found in read("matrices").items()
    ]
    return [head, *rows]


def tensor_table():
    """Tensor CUR of the rank asked for, the peer among cross approximations, and the Tucker decompositions."""
    methods = ["tensor CUR", "teneva cross", "st_hosvd, auto", "TensorLy, random start", "pyttb hosvd"]
    rows = [
        [family, *(shown(found[method]) if method in found else "-" for method in methods)]
        for family, found in read("tensors").items()
    ]
    return [["tensor", *methods], *rows]


def entries_table():
    """Error and the share of the entries that are read."""
    methods = list(bench_tensors.ENTRYWISE)
    rows = [
        [
            family,
            *(
                f"{found[method]['error']:.4g}, {100 * found[method]['entries_read']:.3g} %" if method in found else "-"
                for method in methods
            ),
        ]
        for family, found in read("entries").items()
    ]
    return [["tensor", *methods], *rows]


TABLES = {"matrices": matrix_table, "tensors": tensor_table, "entries": entries_table}


# ---- pictures


def kind(method):
    """Whose a method is, for its colour."""
    if method in common.SVDS or method in bench_tensors.TUCKER or method == "st_hosvd":
        return "svd"
    ours = method.startswith(("columns, ", "tensor CUR")) or (method in common.CURS and method not in PEER_CURS)
    return "ours" if ours else "peer"


def points(suite, x, families=None):
    """Panels of a picture: error against x."""
    return {
        family: {method: (values[x], values["error"]) for method, values in methods.items()}
        for family, methods in read(suite).items()
        if families is None or family in families
    }


def draw():
    """All pictures."""
    matrices = {"ylabel": "error / that of the truncated SVD", "best": "truncated SVD"}
    tensors = {"ylabel": "error / that of HOOI", "best": "HOOI"}
    time = "CPU seconds"
    multiples = functools.partial(pictures.small_multiples, always=DEFAULTS)
    multiples(PICTURES / "matrices.png", points("matrices", "seconds"), kind, time, height=3.2, **matrices)
    for name, families in {"tensors": SMOOTH | REAL, "hostile-tensors": RANDOM | HOSTILE}.items():
        # exactly of the rank: all errors are those of rounding
        panels = points("tensors", "seconds", families.keys() - {"rank deficient"})
        multiples(PICTURES / f"{name}.png", panels, kind, time, height=2.7, **tensors)
    panels = points("entries", "entries_read", (SMOOTH | RANDOM | HOSTILE).keys() - {"rank deficient"})
    multiples(PICTURES / "entries.png", panels, kind, "entries read / all", height=2.4, **tensors)


def main(options):
    if "--keep" not in options:
        pages.write_results("evidence", list(recorded(newest_results())))
    for name, table in TABLES.items():
        pages.rewrite(PAGE, f"evidence of {name}", table())


if __name__ == "__main__":
    main(sys.argv[1:])
