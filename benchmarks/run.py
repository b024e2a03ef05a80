"""Run asv on this environment, on one thread: ``python -m benchmarks.run [--quick] [--bench REGEX] ...``.

Options are those of ``asv run``. Exit status 1 where a benchmark raised or took too long, or where none was recorded.
What is skipped, since a module is not installed, is listed by name.
"""

import itertools
import math
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent

CONFIG = ROOT / "benchmarks" / "asv.conf.json"
RESULTS = ROOT / ".asv" / "results"


def asv(command, *options):
    """The exit status of a command of asv."""
    return subprocess.run([sys.executable, "-m", "asv", command, "--config", CONFIG, *options], cwd=ROOT).returncode


def newest_results():
    """What asv wrote last, or None."""
    from asv.results import Results

    paths = [path for path in RESULTS.glob("*/*.json") if path.name != "machine.json"]
    return Results.load(str(max(paths, key=lambda path: path.stat().st_mtime))) if paths else None


def figures(results, benchmark):
    """Values of a benchmark by parameters as asv writes them; None where it failed, NaN where it was skipped."""
    params = results.get_result_params(benchmark)
    values = results.get_result_value(benchmark, params)
    return dict(zip(itertools.product(*params), values or itertools.repeat(None), strict=False))


def report(results, since):
    """Say what was recorded, skipped and failed since a time; 1 where anything failed or nothing was recorded."""
    names = [name for name, start in results.started_at.items() if start >= 1000 * since] if results else []
    found = {(name, *params): value for name in names for params, value in figures(results, name).items()}
    failed = [" ".join(key) for key, value in found.items() if value is None]
    skipped = [" ".join(key) for key, value in found.items() if value is not None and math.isnan(value)]
    for word, keys in (("skipped", skipped), ("FAILED", failed)):
        for key in keys:
            print(f"{word:8}{key}")
    recorded = len(found) - len(failed) - len(skipped)
    print(f"{len(names)} benchmarks, {recorded} figures recorded, {len(skipped)} skipped, {len(failed)} failed")
    return int(bool(failed) or not recorded)


def main(options):
    since = time.time()
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, check=True, capture_output=True, text=True)
    asv("machine", "--yes")
    status = asv("run", "-E", f"existing:{sys.executable}", "--set-commit-hash", commit.stdout.strip(), *options)
    return report(newest_results(), since) or status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
