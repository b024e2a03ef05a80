"""Tables of runs with several seeds, a line each: made and continued, summed up, and drawn. Needs no PyTorch."""

import csv
from typing import NamedTuple

import numpy as np


def rows_of(path):
    """The runs in a table."""
    if path is None or not path.exists():
        return []
    with path.open() as file:
        return list(csv.DictReader(file))


def add_row(path, row):
    """Print a run, and append it to the table."""
    print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    if path is not None:
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, row)
            if new:
                writer.writeheader()
            writer.writerow(row)


class Summary(NamedTuple):
    """Runs of one adapter with several seeds: accuracies in percent, their mean and standard deviation."""

    trained: int
    accuracies: list
    mean: float
    spread: float


def summary(rows, key="method"):
    """The summary of each method."""
    runs: dict = {}
    for row in rows:
        runs.setdefault(row[key], []).append(row)
    found = {}
    for name, own in runs.items():
        accuracies = [100 * float(row["accuracy"]) for row in own]
        spread = np.std(accuracies, ddof=1) if len(own) > 1 else np.nan
        found[name] = Summary(int(own[0]["trained"]), accuracies, np.mean(accuracies), spread)
    return found


def report(rows, plot=None, *, key="method", judged_by="the development set"):
    """Print the summary as docs/adapters.md has it, and draw it if a file is named."""
    table = summary(rows, key)
    print(f"| {key} | trained | accuracy, % | spread | seeds |\n|---|---|---|---|---|")
    for name, found in table.items():
        spread = "-" if np.isnan(found.spread) else f"{found.spread:.2f}"
        print(f"| `{name}` | {found.trained:,} | {found.mean:.2f} | {spread} | {len(found.accuracies)} |")
    if plot is not None:
        draw(table, plot, judged_by)


def draw(table, plot, judged_by):
    """A line for each method: its runs, their mean and standard deviation."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 0.35 * len(table) + 1.4), layout="constrained")
    for line, found in enumerate(table.values()):
        axes.plot(found.accuracies, [line] * len(found.accuracies), ".", color="0.6")
        axes.errorbar(found.mean, line, xerr=np.nan_to_num(found.spread), fmt="o", color="C0", capsize=3)
    axes.set_yticks(range(len(table)), [f"{name} ({found.trained:,})" for name, found in table.items()])
    axes.invert_yaxis()
    axes.set_xlabel(f"accuracy on {judged_by}, %:\neach seed (grey), mean and standard deviation")
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(plot)
