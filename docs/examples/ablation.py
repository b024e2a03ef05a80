"""What rank, alpha, columns, rate, layers and start of an adapter do to its accuracy on SST-2.

As in sst2.py, but from 1,000 sentences, and judged by 872 training sentences that were left out: the table is there to
choose settings by, and no figure on the development set may depend on it. Some 40 s of one core a run::

    python docs/examples/ablation.py --groups rank alpha --csv ablation.csv --plot ablation.png
"""

import argparse
from functools import partial

from runs import add_row, report, rows_of
from shared import add_training_options, data_folder
from sst2 import METHODS, curlora, lora, lora_cur, run, task, tcurlora

ATTENTION = ["query", "key", "value", "attention.output.dense"]

# What is varied. Group: variant: what differs from the method's adapter in sst2.py, and from its learning rate.
VARIANTS = {
    "rank": {
        "LoRA 4": (partial(lora, rank=4), "lora"),
        "LoRA 8": (lora, "lora"),
        "LoRA 16": (partial(lora, rank=16), "lora"),
        "LoRA 64": (partial(lora, rank=64), "lora"),
    },
    "alpha": {
        "LoRA 8, alpha 8": (partial(lora, alpha=8), "lora"),
        "LoRA 8, alpha 32": (partial(lora, alpha=32), "lora"),
    },
    "columns": {
        "CURLoRA 16": (partial(curlora, rank=16), "curlora"),
        "CURLoRA 32": (partial(curlora, rank=32), "curlora"),
        "CURLoRA 64": (partial(curlora, rank=64), "curlora"),
        "CURLoRA 128": (partial(curlora, rank=128), "curlora"),
        "tCURLoRA 32, 32, 6": (partial(tcurlora, ranks=32), "tcurlora"),
        "tCURLoRA 64, 64, 6": (partial(tcurlora, ranks=64), "tcurlora"),
        "tCURLoRA 128, 128, 6": (partial(tcurlora, ranks=128), "tcurlora"),
        "tCURLoRA 135, 135, 2": (partial(tcurlora, ranks=(135, 135, 2)), "tcurlora"),
    },
    "rate": {
        "LoRA 8, 5e-4": (lora, 5e-4),
        "LoRA 8, 2e-3": (lora, 2e-3),
        "CURLoRA 64, 2e-3": (partial(curlora, rank=64), 2e-3),
        "CURLoRA 64, 1e-2": (partial(curlora, rank=64), 1e-2),
    },
    "layers": {
        "CURLoRA query, 110": (partial(curlora, rank=110, target_modules=["query"]), "curlora"),
        "CURLoRA value, 110": (partial(curlora, rank=110, target_modules=["value"]), "curlora"),
        "CURLoRA attention, 55": (partial(curlora, rank=55, target_modules=ATTENTION), "curlora"),
        "CURLoRA all, 45": (partial(curlora, rank=45, target_modules="all-linear"), "curlora"),
    },
    "start": {
        "LoRA 8 from rows": (lora_cur, "lora_cur"),
        "LoRA 8, residual": (partial(lora_cur, init="cur_residual"), 3e-4),
        "CURLoRA 64, uniform": (partial(curlora, rank=64, method="uniform"), "curlora"),
        "CURLoRA 64, inverse norms": (partial(curlora, rank=64, method="inverse_norm"), "curlora"),
        "CURLoRA 64, raw": (partial(curlora, rank=64, basis="raw"), "curlora"),
    },
}


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--groups", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[100, 101, 102])
    add_training_options(parser, size=1000)
    arguments = parser.parse_args()

    folder = data_folder("sst2", arguments.data)
    done = {(row["variant"], int(row["seed"])) for row in rows_of(arguments.csv)}
    rows = []
    for seed in arguments.seeds:
        data = task(folder, seed, size=arguments.size, tune=True)
        for group in arguments.groups:
            for name, (adapt, rate) in VARIANTS[group].items():
                if (f"{group}: {name}", seed) in done:
                    continue
                rate = METHODS[rate].rate if rate in METHODS else rate
                trained, accuracy = run(adapt, rate, data, seed, epochs=arguments.epochs)
                row = {"variant": f"{group}: {name}", "trained": trained, "rate": rate, "seed": seed}
                row["accuracy"] = round(accuracy, 5)
                add_row(arguments.csv, row)
                rows.append(row)
    report(rows_of(arguments.csv) or rows, arguments.plot, key="variant", judged_by="training sentences left out")


if __name__ == "__main__":
    main()
