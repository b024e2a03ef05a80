"""What the rank, the number of columns, the target modules and the start of an adapter do to its accuracy on SST-2.

As in sst2.py, but from 1,000 sentences, and judged by training sentences that were left out: the table is there to
choose settings by, and no figure on the development set may depend on it::

    python docs/examples/ablation.py --csv ablation.csv --plot ablation.png
"""

import argparse
from functools import partial
from pathlib import Path

from shared import data_folder
from sst2 import METHODS, add_row, curlora, lora, report, rows_of, run, task, tcurlora

ATTENTION = ["query", "key", "value", "attention.output.dense"]

# What is varied: name of a variant, its method (whose learning rate it has), and the adapter.
VARIANTS = {
    "rank: LoRA 1": ("lora", partial(lora, rank=1)),
    "rank: LoRA 4": ("lora", partial(lora, rank=4)),
    "rank: LoRA 8": ("lora", lora),
    "rank: CURLoRA 16": ("curlora", partial(curlora, rank=16)),
    "rank: CURLoRA 32": ("curlora", partial(curlora, rank=32)),
    "rank: CURLoRA 78": ("curlora", curlora),
    "rank: tCURLoRA 32, 32, 6": ("tcurlora", partial(tcurlora, ranks=(32, 32, 6))),
    "rank: tCURLoRA 78, 78, 6": ("tcurlora", tcurlora),
    "samples: tCURLoRA 96, 96, 4": ("tcurlora", partial(tcurlora, ranks=(96, 96, 4))),
    "samples: tCURLoRA 135, 135, 2": ("tcurlora", partial(tcurlora, ranks=(135, 135, 2))),
    "targets: CURLoRA query, 110": ("curlora", partial(curlora, rank=110, target_modules=["query"])),
    "targets: CURLoRA attention, 55": ("curlora", partial(curlora, rank=55, target_modules=ATTENTION)),
    "start: LoRA from rows": ("lora", partial(lora, init="cur")),
    "start: LoRA residual": ("lora", partial(lora, init="cur_residual")),
    "start: CURLoRA uniform": ("curlora", partial(curlora, method="uniform")),
    "start: CURLoRA inverse norms": ("curlora", partial(curlora, method="inverse_norm")),
    "start: CURLoRA raw": ("curlora", partial(curlora, basis="raw")),
}


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[100, 101, 102])
    parser.add_argument("--size", type=int, default=1000, help="sentences to learn from")
    parser.add_argument("--data", help="folder with train.tsv and dev.tsv")
    parser.add_argument("--csv", type=Path, help="table to be made or continued")
    parser.add_argument("--plot", type=Path, help="picture to be drawn")
    arguments = parser.parse_args()

    folder = data_folder("sst2", arguments.data)
    done = {(row["variant"], int(row["seed"])) for row in rows_of(arguments.csv)}
    rows = []
    for seed in arguments.seeds:
        data = task(folder, seed, size=arguments.size, tune=True)
        for name, (method, adapt) in VARIANTS.items():
            if (name, seed) in done:
                continue
            rate = METHODS[method][1]
            trained, accuracy = run(adapt, rate, data, seed)
            row = {"variant": name, "trained": trained, "rate": rate, "seed": seed, "accuracy": round(accuracy, 5)}
            add_row(arguments.csv, row)
            rows.append(row)
    report(rows_of(arguments.csv) or rows, arguments.plot, key="variant")


if __name__ == "__main__":
    main()
