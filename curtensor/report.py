"""One page of HTML that says what a choice says: no network, no picture files, light and dark, tables that sort."""

import re
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from typing import Any

import numpy as np

import curtensor
from curtensor import _validation, plots
from curtensor.explanation import SIDES, TERMS

MOST_OTHERS = 5000  # rows of the table of others, so that the page stays below 3 MB
MOST_OUTLIERS = 100
HEAT_MAP = (60, 30)  # others and chosen ones of which coefficients are drawn

STYLE = """
:root { color-scheme: light dark; --page: #fff; --text: #1c2024; --soft: #5c656e; --line: #d5dade; --bar: #a9d0ea;
  --own: #0072b2; --svd: #b45309; --shade: #f3f5f7 }
@media (prefers-color-scheme: dark) { :root { --page: #15181b; --text: #e7eaed; --soft: #a3adb6; --line: #3a4148;
  --bar: #1d4f70; --own: #56b4e9; --svd: #f0a85e; --shade: #1e2327 } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 62rem; padding: 1.2rem; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: break-word }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .6rem } h2 { font-size: 1.15rem; margin: 2.2rem 0 .3rem }
p { margin: .3rem 0 .8rem; max-width: 46rem } .soft, figcaption, footer { color: var(--soft); font-size: .9rem }
.facts { display: flex; flex-wrap: wrap; gap: .6rem; padding: 0; margin: 1rem 0; list-style: none }
.facts li { background: var(--shade); border-radius: .5rem; padding: .5rem .9rem; flex: 1 1 8rem }
.facts b { display: block; font-size: 1.35rem; font-weight: 600 }
.wide { overflow: auto; max-height: 36rem; border: 1px solid var(--line); border-radius: .5rem }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .6rem; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top }
thead th { position: sticky; top: 0; background: var(--shade); z-index: 1; white-space: nowrap }
th button { all: unset; cursor: pointer; font-weight: 600 } th button:focus-visible { outline: 2px solid var(--own) }
th button::after { content: " \\2195"; color: var(--soft); font-weight: 400 }
th[aria-sort=ascending] button::after { content: " \\2191"; color: inherit }
th[aria-sort=descending] button::after { content: " \\2193"; color: inherit }
.n { text-align: right; white-space: nowrap; width: 1% }
.s { min-width: 9rem } td.s { white-space: nowrap;
  background: linear-gradient(to right, var(--bar) calc(var(--s) * 1%), transparent 0) }
.name { min-width: 9rem } .from { min-width: 14rem } .from span { display: inline-block; margin-right: .8rem }
input { font: inherit; padding: .3rem .6rem; margin: 0 0 .5rem; width: 100%; max-width: 22rem; color: inherit;
  background: var(--page); border: 1px solid var(--line); border-radius: .4rem }
figure { margin: 0 0 1rem } svg { width: 100%; max-width: 44rem; height: auto; display: block }
svg text { fill: var(--soft); font: 13px system-ui, sans-serif } svg .grid { stroke: var(--line) }
svg polyline { fill: none; stroke-width: 2.5 } .own { stroke: var(--own); fill: var(--own) }
.svd { stroke: var(--svd); fill: var(--svd) } .key::before { content: "\\25CF  " } .key { margin-right: 1.2rem }
.key.own::before { color: var(--own) } .key.svd::before { color: var(--svd) }
.map { width: auto }
.map td { padding: .15rem .35rem; text-align: center; border: 1px solid var(--line); font-size: .78rem }
.map tbody th { font-weight: 400; white-space: nowrap; padding: .15rem .6rem }
.map thead th { writing-mode: vertical-rl; transform: rotate(180deg); position: static; background: none;
  font-weight: 400; border: 0; padding: .4rem .2rem }
.map .p { background: rgba(0, 114, 178, var(--a)) } .map .m { background: rgba(213, 94, 0, var(--a)) }
pre { background: var(--shade); padding: .7rem 1rem; border-radius: .5rem; overflow: auto; font-size: .85rem }
@media (max-width: 40rem) { svg text { font-size: 24px } .i { display: none } .s { min-width: 6rem }
  .name { min-width: 6rem } .from { min-width: 9.5rem } th, td { padding: .3rem .4rem }
  th:not([aria-sort]) button::after { content: "" } }
@media print { body { max-width: none; font-size: 11px } .wide { max-height: none; overflow: visible; border: 0 }
  input { display: none } th button::after { content: "" !important } thead th { position: static }
  tr, figure { break-inside: avoid } h2 { break-after: avoid }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact } }
"""
SCRIPT = """
const value = cell => cell.dataset.v === undefined ? cell.textContent : Number(cell.dataset.v)
const before = (a, b) => typeof a === "number" ? a - b : a.localeCompare(b, undefined, {numeric: true})
for (const button of document.querySelectorAll("th button")) button.onclick = () => {
  const head = button.parentNode, body = head.closest("table").tBodies[0], place = head.cellIndex
  const down = head.getAttribute("aria-sort") === "ascending"
  for (const other of head.parentNode.cells) other.removeAttribute("aria-sort")
  head.setAttribute("aria-sort", down ? "descending" : "ascending")
  const rows = [...body.rows].map(row => [value(row.cells[place]), row]).sort((a, b) => before(a[0], b[0]))
  body.append(...(down ? rows.reverse() : rows).map(row => row[1]))
}
for (const input of document.querySelectorAll("input")) input.oninput = () => {
  const wanted = input.value.toLowerCase()
  for (const row of document.getElementById(input.dataset.table).tBodies[0].rows)
    row.hidden = !row.textContent.toLowerCase().includes(wanted)
}
"""


def report(
    result: Any,
    A: Any,
    /,
    *,
    names: Sequence[Any] = (None, None),
    title: str = "What was chosen",
    svd: bool = True,
    rng: _validation.RandomSource = None,
) -> str:
    """Write what the chosen columns, or rows, say of a matrix as one page of HTML.

    Parameters
    ----------
    result : CUR or ID
        What was chosen; of a CUR the columns are explained.
    A : array of any framework, sparse matrix, DataFrame, DataArray, dask array or `row_blocks`, shape (m, n)
        The matrix that was decomposed.
    names : pair of (sequence or None), optional
        Names of all rows and of all columns, where A does not say them itself.
    title : str, default "What was chosen"
        The page's heading, such as the name of a file.
    svd : bool, default True
        Whether to set the SVD's shares beside, an estimate for which `randomized_svd` makes passes of its own.
    rng : None, int, SeedSequence or Generator, optional
        Source of randomness for this estimate.

    Returns
    -------
    page : str
        A whole document, which needs nothing else: it loads no script, font or picture.

    Raises
    ------
    TypeError, ValueError
        As `CUR.explain`; if there is not one name for each row and each column.

    Notes
    -----
    Passes over A: one, and those of `randomized_svd`. Of many columns the table has the 5000 that are worst explained,
    which keeps the page below 3 MB.

    Examples
    --------
    >>> import curtensor as ct
    >>> from curtensor.files import example_matrix
    >>> from curtensor.report import report
    >>> A, tumours, measurements = example_matrix()
    >>> page = report(ct.cur_decomposition(A, 6, rng=0), A, names=(None, measurements), rng=0)
    >>> "worst perimeter" in page, len(page) < 100_000
    (True, True)
    """
    explanation = result.explain(A, svd=svd, rng=rng)
    shape = tuple(map(len, (explanation.left, explanation.each)))[:: 1 if explanation.axis else -1]
    given = [None if own is None else np.asarray(own) for own in names]
    for axis, (own, size) in enumerate(zip(given, shape, strict=True)):
        if own is not None and own.shape != (size,):
            raise _validation.complain(ValueError, f"names[{axis}]", f"{size} names", f"shape {own.shape}")
    pairs = zip(given, explanation.names, strict=True)
    explanation = replace(explanation, names=tuple(known if own is None else own for own, known in pairs))
    sections = [
        heading(title, explanation, result, shape),
        choices(explanation),
        others(explanation),
        heat_map(explanation),
        outliers(explanation),
        chosen_across(explanation, result),
        next_steps(explanation),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        "script-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(filter(None, sections))
        + f"\n<footer><p>A share is that of a squared Frobenius norm: 1 minus what the best fit leaves of it. "
        "Rows and columns are counted from 0. "
        f"curtensor {curtensor.__version__}.</p></footer>\n<script>{SCRIPT}</script>\n</body></html>\n"
    )


def heading(title, explanation, result, shape):
    """The title, and the answer in one sentence and in a few figures."""
    k, side = len(explanation.chosen), SIDES[explanation.axis]
    share = explanation.explained[-1] if k else 0.0
    facts = [(f"{k} of {len(explanation.each)}", f"{side}s chosen"), (percent(share), f"explained by these {side}s")]
    if explanation.svd is not None and k:
        facts.append((percent(explanation.svd[-1]), "by as many terms of the SVD (estimate)"))
    if len(result.product) == 3:
        facts.append((percent(1 - result.error_estimate**2), "by C U R, chosen rows and columns together"))
    items = "".join(f"<li><b>{figure}</b>{what}</li>" for figure, what in facts)
    return (
        f"<h1>{escape(title)}</h1><p>{k} {side}s were chosen of a matrix with {shape[0]:,} rows and {shape[1]:,} "
        f"columns. The tables say what each of them adds, and how well every other {side} follows from them. The SVD "
        f"explains the most that {k} terms can, but each of its terms mixes all {side}s.</p>"
        f'<ul class="facts">{items}</ul>'
    )


def choices(explanation):
    """The curve and the table of the chosen ones."""
    side = SIDES[explanation.axis]
    columns = explanation.choices
    head = ["order", *labels(columns, side), "adds", "explained so far", *(["SVD"] if "svd" in columns else [])]
    rows = []
    for i, name in enumerate(cells_of_names(explanation, explanation.axis, columns[side])):
        figures = [number(percent(columns["adds"][i]), columns["adds"][i]), share(columns["explained"][i])]
        figures += [number(percent(columns["svd"][i]), columns["svd"][i])] if "svd" in columns else []
        rows.append([number(i + 1, i + 1, " i"), *name, *figures])
    return (
        f"<h2>Chosen {side}s, in order</h2>{curve(explanation)}{sortable('choices', head, rows)}"
        if rows
        else f"<h2>Chosen {side}s</h2><p>None: the matrix is zero.</p>"
    )


def others(explanation):
    """The table of all others, with what they follow from."""
    side, columns = SIDES[explanation.axis], explanation.others
    count, most = len(columns[side]), MOST_OTHERS
    if count == 0:
        return ""
    rows = [
        [*name, share(columns["explained"][i]), from_terms(columns["follows_from"][i])]
        for i, name in enumerate(cells_of_names(explanation, explanation.axis, columns[side][:most]))
    ]
    some = f" The table has the {most:,} worst explained of {count:,}." if count > most else ""
    return (
        f"<h2>All other {side}s, and what they follow from</h2><p>Worst explained first. Each is close to a sum of the "
        f"chosen {side}s times coefficients; the {TERMS} that contribute most are named.{some}</p>"
        f'<input type="search" data-table="others" placeholder="find a {side}" aria-label="find a {side}">'
        + sortable("others", [*labels(columns, side), "explained", "follows from"], rows)
    )


def heat_map(explanation):
    """Coefficients of some of the others on the chosen ones, as a table of coloured cells."""
    most, widest = HEAT_MAP
    k, axis = len(explanation.chosen), explanation.axis
    rest = np.setdiff1d(np.arange(len(explanation.each)), explanation.chosen)
    if k == 0 or len(rest) == 0:
        return ""
    kept = rest[np.argsort(-explanation.each[rest], kind="stable")][:most]
    coefficients = explanation.coefficients[:widest, kept].T
    names = explanation.names[axis]
    texts = [
        escape(plots.short_name(str(i if names is None else names[i]))) for i in (*explanation.chosen[:widest], *kept)
    ]
    columns, rows = texts[: coefficients.shape[1]], texts[coefficients.shape[1] :]
    largest = min(np.abs(coefficients).max() or 1, 2)
    body = "".join(
        f'<tr><th scope="row">{row}</th>{"".join(coloured(x, largest) for x in line)}</tr>'
        for row, line in zip(rows, coefficients, strict=True)
    )
    head = "".join(f'<th scope="col">{column}</th>' for column in columns)
    of_all = (
        "" if len(kept) == len(rest) and k <= widest else f" Of {len(rest):,} others the {len(kept)} best explained"
    )
    of_all += f", on the first {widest} of {k} chosen." if k > widest else "." if of_all else ""
    return (
        f"<h2>The others from the chosen, as a map</h2><p>Coefficients, best explained first: blue is positive, orange "
        f'negative.{of_all}</p><div class="wide"><table class="map"><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def outliers(explanation):
    """The rows, or columns, worst explained."""
    across, columns = SIDES[1 - explanation.axis], explanation.outliers
    count = len(columns[across])
    rows = [
        [*name, share(columns["explained"][i]), number(percent(columns["left"][i]), columns["left"][i])]
        for i, name in enumerate(cells_of_names(explanation, 1 - explanation.axis, columns[across][:MOST_OUTLIERS]))
    ]
    some = f" The first {MOST_OUTLIERS} of {count:,}." if count > MOST_OUTLIERS else ""
    return (
        f"<h2>{across.capitalize()}s worst explained</h2><p>Most of what is left over lies in these; look at them for "
        f"outliers and errors of measurement.{some}</p>"
        + sortable("outliers", [*labels(columns, across), "explained", "share of what is left"], rows)
    )


def chosen_across(explanation, result):
    """The names of what a CUR chose along the other axis."""
    chosen = result.chosen[1 - explanation.axis]
    if chosen is None or len(chosen) == 0:
        return ""
    names, across = explanation.names[1 - explanation.axis], SIDES[1 - explanation.axis]
    listed = ", ".join(escape(str(i if names is None else names[i])) for i in chosen)
    return (
        f"<h2>Chosen {across}s</h2><p>{len(chosen)} {across}s from which, with the columns, all follows: {listed}.</p>"
    )


def next_steps(explanation):
    """Lines to copy."""
    names, axis = explanation.names[explanation.axis], explanation.axis
    chosen = explanation.chosen.tolist()
    listed = [str(names[i]) for i in chosen] if names is not None else chosen
    place = f"[:, {chosen}]" if axis == 1 else f"[{chosen}]"
    lines = [f"A{place}  # an array"]
    if names is not None:
        lines.append(f"table{'[' if axis else '.loc['}{listed}]  # a DataFrame")
    return f"<h2>To take these alone</h2><pre>{escape(chr(10).join(lines))}</pre>"


def curve(explanation):
    """Shares explained so far beside the SVD's, as a picture in the page."""
    k = len(explanation.chosen)
    left, right, top, bottom = 84, 690, 14, 230
    xs = np.linspace(left + 14, right, k) if k > 1 else np.array([(left + right) / 2])
    parts = []
    for level in range(0, 101, 25):
        y = bottom - (bottom - top) * level / 100
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 6}" text-anchor="end">{level} %</text>')
    for i in sorted({*np.linspace(0, k - 1, min(k, 10)).round().astype(int).tolist()}):
        parts.append(f'<text x="{xs[i]:.1f}" y="{bottom + 26}" text-anchor="middle">{i + 1}</text>')
    side = SIDES[explanation.axis]
    keys = [("own", f"the chosen {side}s", explanation.explained)]
    if explanation.svd is not None:
        keys.append(("svd", "the SVD (an estimate)", explanation.svd))
    for key, _, shares in keys[::-1]:
        points = [f"{x:.1f},{bottom - (bottom - top) * s:.1f}" for x, s in zip(xs, shares, strict=True)]
        parts.append(f'<polyline class="{key}" style="fill:none" points="{" ".join(points)}"/>')
        if k <= 40:
            dots = (point.split(",") for point in points)
            parts.extend(f'<circle class="{key}" cx="{x}" cy="{y}" r="3.5"/>' for x, y in dots)
    legend = "".join(f'<span class="key {key}" style="stroke:none">{text}</span>' for key, text, _ in keys)
    return (
        f"<figure><figcaption>Share explained by the first 1, 2, ... {side}s: {legend}</figcaption>"
        f'<svg viewBox="0 0 700 {bottom + 32}" role="img" aria-label="share explained against the number of {side}s">'
        f"{''.join(parts)}</svg></figure>"
    )


def sortable(name, head, rows):
    """A table whose columns sort where their heads are clicked."""
    kinds = [re.match('<td( class="[^"]*")?', cell)[1] or "" for cell in rows[0]]
    heads = "".join(
        f'<th scope="col"{kind}><button type="button">{text}</button></th>'
        for text, kind in zip(head, kinds, strict=True)
    )
    body = "".join(f"<tr>{''.join(row)}" for row in rows)
    return f'<div class="wide"><table id="{name}"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'


def labels(columns, side):
    """Heads of the columns that say which."""
    return [side, "name"] if "name" in columns else [side]


def cells_of_names(explanation, axis, indices):
    """Cells that say which, a number and, where there are names, a name."""
    names = explanation.names[axis]
    for i in indices:
        yield [number(i, i)] if names is None else [number(i, i, " i"), f'<td class="name">{escape(str(names[i]))}']


def from_terms(text):
    """A cell of what a column follows from, each term kept on one line."""
    return f'<td class="from">{"".join(f"<span>{escape(term)}</span>" for term in text.split("  ") if term)}'


def number(text, value, kind=""):
    """A cell of a number, and the value to sort by; "i" where a small screen can do without it."""
    return f'<td class="n{kind}" data-v="{value:.10g}">{text}'


def share(value):
    """A cell of a share with a bar."""
    return f'<td class="s" style="--s:{max(100 * value, 0):.4g}" data-v="{value:.10g}">{percent(value)}'


def coloured(coefficient, largest):
    """A cell of a coefficient, the stronger the larger it is."""
    depth = min(abs(coefficient) / largest, 1) * 0.75
    text = f"{coefficient:.2f}" if abs(coefficient) >= 0.005 else ""
    return f'<td class="{"m" if coefficient.real < 0 else "p"}" style="--a:{depth:.2f}">{text}'


def percent(value):
    """A share in percent."""
    return f"{100 * value:.1f} %"
