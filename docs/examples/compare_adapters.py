"""LoRA, CURLoRA and tCURLoRA side by side: trained numbers, file size, outputs, and time of a step.

On the query and value projections of MiniLM, at equal budgets; times are of this process's processor, best of several,
as ratios to LoRA::

    python docs/examples/compare_adapters.py --csv adapters.csv
"""

import argparse
import copy
import tempfile
import time
from pathlib import Path

import torch
from runs import add_row
from shared import minilm

from curtensor.adapters import (
    adapter_parameters,
    convert_to_curlora,
    convert_to_lora,
    convert_to_tcurlora,
    count_parameters,
    save_adapter,
)

# Name, conversion, options, and the number of trained parameters by formula for L weights (m, n).
ADAPTERS = [
    ("LoRA r=8", convert_to_lora, {"rank": 8}, lambda m, n, L: 8 * (m + n) * L),
    ("CURLoRA k=78", convert_to_curlora, {"rank": 78}, lambda m, n, L: 78**2 * L),
    ("tCURLoRA (78, 78, 6)", convert_to_tcurlora, {"ranks": 78}, lambda m, n, L: 78 * 78 * L),
    ("LoRA r=1", convert_to_lora, {"rank": 1}, lambda m, n, L: (m + n) * L),
    ("CURLoRA k=16", convert_to_curlora, {"rank": 16}, lambda m, n, L: 16**2 * L),
    ("tCURLoRA (32, 32, 2)", convert_to_tcurlora, {"ranks": (32, 32, 2)}, lambda m, n, L: 32 * 32 * 2 * 2),
]


def best_time(call, repeats=7):
    """Least processor time of some calls."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--csv", type=Path, help="table to be made")
    arguments = parser.parse_args()

    base = minilm()
    inputs = {"input_ids": torch.randint(1000, 20000, (16, 32), generator=torch.Generator().manual_seed(0))}
    with torch.no_grad():
        plain = base(**inputs).last_hidden_state
    first = None
    for name, convert, options, formula in ADAPTERS:
        model = copy.deepcopy(base)
        start = time.process_time()
        model = convert(model, ["query", "value"], rng=0, **options).eval()
        conversion = time.process_time() - start
        trained, _ = count_parameters(model)
        same = torch.equal(model(**inputs).last_hidden_state, plain)

        def step(model=model):
            model(**inputs).last_hidden_state.sum().backward()

        seconds = best_time(step)
        first = first or seconds
        with tempfile.TemporaryDirectory() as folder:
            save_adapter(model, folder)
            size = sum(file.stat().st_size for file in Path(folder).iterdir())
        with torch.no_grad():
            for p in adapter_parameters(model):
                p.add_(0.01 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
            moved = torch.linalg.norm(model(**inputs).last_hidden_state - plain) / torch.linalg.norm(plain)
        row = {
            "adapter": name,
            "trained": trained,
            "by_formula": formula(384, 384, 12),
            "file_bytes": size,
            "output_of_the_base_at_first": same,
            "output_moved_by_noise_of_0.01": round(float(moved), 4),
            "step_over_LoRA_r_8": round(seconds / first, 2),
        }
        print(f"conversion {conversion:.2f} s of processor time: ", end="")
        add_row(arguments.csv, row)


if __name__ == "__main__":
    main()
