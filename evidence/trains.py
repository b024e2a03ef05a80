"""The figures claimed for functions of many and of few variables, measured: ``python -m evidence.trains [claim ...]``.

One line for each: the claim, its target, what was measured, held or MISSED. Exit status 1 where one was missed.
Names of claims pick some; ``--list`` shows them. On one thread; times are CPU seconds, both sides in turn in the same
process. Constants were chosen on other grids and seeds than those here.
"""

import math
import time
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

import curtensor as ct
from evidence.claims import Line, at_most, command, shown

LENGTH = 20  # of each mode of a demonstration function
TESTED = 20000  # entries, on which an error is measured


class Box(NamedTuple):
    """A function of a list of coordinates, and the interval of all of these."""

    function: Callable
    low: float
    high: float


def mean(x, function):
    return sum(map(function, x)) / len(x)


def product(factors):
    found = 1.0
    for factor in factors:
        found = found * factor
    return found


def ackley(x):
    waves = mean(x, lambda v: np.cos(2 * np.pi * v))
    return 20 + np.e - 20 * np.exp(-0.2 * np.sqrt(mean(x, np.square))) - np.exp(waves)


def griewank(x):
    return sum(v**2 for v in x) / 4000 - product(np.cos(v / np.sqrt(i + 1)) for i, v in enumerate(x)) + 1


def schaffer(x):
    squares = [x[i] ** 2 + x[i + 1] ** 2 for i in range(len(x) - 1)]
    return sum(0.5 + (np.sin(np.sqrt(s)) ** 2 - 0.5) / (1 + 0.001 * s) ** 2 for s in squares)


def rosenbrock(x):
    return sum(100 * (x[i + 1] - x[i] ** 2) ** 2 + (1 - x[i]) ** 2 for i in range(len(x) - 1))


def dixon(x):
    return (x[0] - 1) ** 2 + sum((i + 2) * (2 * x[i + 1] ** 2 - x[i]) ** 2 for i in range(len(x) - 1))


def two_bells(x):
    first, second = (sum((v - c) ** 2 for v in x) for c in (0.3, -0.4))
    return np.exp(-first / 2) + 0.7 * np.exp(-second) + 0.01 * sum(x)


FUNCTIONS = {
    "Ackley": Box(ackley, -30, 31),
    "Alpine": Box(lambda x: sum(np.abs(v * np.sin(v) + 0.1 * v) for v in x), -10, 11),
    "Dixon": Box(dixon, -10, 9),
    "exponential": Box(lambda x: -np.exp(-0.5 * sum(v**2 for v in x)), -1, 1.1),
    "Griewank": Box(griewank, -100, 90),
    "Michalewicz": Box(
        lambda x: -sum(np.sin(v) * np.sin((i + 1) * v**2 / np.pi) ** 20 for i, v in enumerate(x)), 0, 3.1
    ),
    "Qing": Box(lambda x: sum((v**2 - i - 1) ** 2 for i, v in enumerate(x)), 0, 480),
    "Rastrigin": Box(lambda x: 10 * len(x) + sum(v**2 - 10 * np.cos(2 * np.pi * v) for v in x), -5, 5.2),
    "Rosenbrock": Box(rosenbrock, -2, 2.1),
    "Schaffer": Box(schaffer, -10, 9),
    "Schwefel": Box(lambda x: 419 * len(x) - sum(v * np.sin(np.sqrt(np.abs(v))) for v in x), 0, 490),
    "Lorentz": Box(lambda x: 1 / (1 + sum(v**2 for v in x)), -1, 1.1),
    "sine of a sum": Box(lambda x: np.sin(sum(x)), 0, 1.1),
    "inverse root": Box(lambda x: 1 / np.sqrt(1 + sum(x)), 0, 1.1),
    "two bells": Box(two_bells, -1, 1.1),
}


def on_grid(name):
    """A demonstration function as one of index arrays."""
    function, low, high = FUNCTIONS[name]
    grid = np.linspace(low, high, LENGTH)
    return lambda *indices: function([grid[index] for index in indices])


def measured(f, train_at, shape):
    """The relative error on entries from anywhere."""
    places = np.random.default_rng(12345).integers(0, np.array(shape)[:, None], (len(shape), TESTED))
    values = f(*places)
    return float(np.linalg.norm(train_at(places) - values) / np.linalg.norm(values))


def claims_held(d, rtols=(1e-3, 1e-4, 1e-5, 1e-6), seeds=range(10, 14)):
    claimed, held, worst, runs = 0, 0, 0.0, 0
    for name in FUNCTIONS:
        f, shape = on_grid(name), (LENGTH,) * d
        for rtol in rtols:
            for seed in seeds:
                train = ct.tt_cross(f, rtol=rtol, shape=shape, rng=seed)
                runs += 1
                if train.converged:
                    over = measured(f, train.at, shape) / rtol
                    claimed, held, worst = claimed + 1, held + (over <= 1), max(worst, over)
    yield Line(f"{d} variables, 15 functions: claims that hold", "all", f"{held} of {claimed}", held == claimed)
    yield shown(f"{d} variables: runs that claim to have converged", f"{claimed} of {runs}")
    yield at_most(f"{d} variables: error over rtol, worst", 1, worst)


def claims():
    """15 functions of 10 and 30 variables, rtol 1e-3 to 1e-6, four seeds: whatever is called converged is."""
    for d in (10, 30):
        yield from claims_held(d)


def teneva():
    """Entries and CPU over those of teneva at its own stop, from rank 1, which it raises by 1 a sweep."""
    import teneva as peer

    ct.tt_cross(on_grid("Qing"), rtol=1e-3, shape=(LENGTH,) * 3, rng=0)  # which loads what is loaded once
    for d in (10, 30):
        entries, seconds, theirs_held = [], [], []
        for name in FUNCTIONS:
            f, shape = on_grid(name), (LENGTH,) * d
            for rtol in (1e-3, 1e-6):
                start = time.process_time()
                train = ct.tt_cross(f, rtol=rtol, shape=shape, rng=10)
                own, read = time.process_time() - start, {}
                start = time.process_time()
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    cores = peer.cross(lambda I, f=f: f(*I.T), peer.rand(shape, 1, seed=10), e=rtol, info=read)
                theirs = time.process_time() - start
                entries.append(train.n_entries_read / read["m"])
                seconds.append(own / theirs)
                theirs_held.append(measured(f, lambda places, Y=cores: peer.get_many(Y, places.T), shape) <= rtol)
        for what, target, ratios in (("entries", 0.7, entries), ("CPU", 0.3, seconds)):
            note = f" ({min(ratios):.2f} to {max(ratios):.2f})"
            middle = math.exp(np.mean(np.log(ratios)))
            yield at_most(f"{d} variables: {what} over teneva's, geometric mean", target, middle, note)
        yield shown(f"{d} variables: teneva's runs that hold rtol", f"{sum(theirs_held)} of {len(theirs_held)}")


def peaks(d, count, width, seed, background):
    """Narrow Gaussian peaks on a grid of 64^d, and where they are."""
    rng = np.random.default_rng(seed)
    centres, sizes = rng.integers(6, 58, (count, d)), rng.uniform(0.5, 1, count)

    def f(*indices):
        found = background / (1 + sum(index / 63 for index in indices))
        for centre, size in zip(centres, sizes, strict=True):
            squares = sum(((index - c) / 63) ** 2 for index, c in zip(indices, centre, strict=True))
            found = found + size * np.exp(-squares / (2 * width**2))
        return found

    return f, centres


def lost_peaks():
    """Narrow Gaussian peaks, alone and upon a background: lost and called converged, of 50 runs each."""
    for d in (6, 10, 20):
        for background, count in ((0, 1), (0, 3), (0.5, 1)):
            lost = claimed = 0
            for seed in range(50):
                f, centres = peaks(d, count, 0.05, 1000 + seed, background)
                train = ct.tt_cross(f, rtol=1e-3, shape=(64,) * d, rng=seed)
                values = f(*centres.T)
                claimed += train.converged
                lost += train.converged and bool((np.abs(train.at(centres.T) - values) > 0.1 * np.abs(values)).any())
            what = f"{d} variables, {count} peaks, background {background}: lost and called converged, of 50"
            yield shown(what, f"{lost} ({claimed} claimed)") if background else at_most(what, 0, lost)


def integral():
    """The integral of a function of 100 variables to 1e-6, under 1e6 entries and 5 CPU seconds."""
    x, w = np.polynomial.legendre.leggauss(10)
    x, w, rates = (x + 1) / 2, w / 2, 1 / (2 + np.arange(100) % 7)

    def f(*indices):
        return np.cos(sum(rate * x[index] for rate, index in zip(rates, indices, strict=True)) / 5)

    start = time.process_time()
    train = ct.tt_cross(f, rtol=1e-8, shape=(10,) * 100, rng=0)
    value = train.sum(weights=[w] * 100)
    seconds = time.process_time() - start
    exact = np.prod((np.exp(0.2j * rates) - 1) / (0.2j * rates)).real
    yield at_most("integral of 100 variables: relative error", 1e-6, abs(value / exact - 1))
    yield at_most("integral of 100 variables: entries", 1e6, train.n_entries_read)
    yield at_most("integral of 100 variables: CPU seconds", 5, seconds)


def exact():
    """Constants, sums and separable functions always converge: 2 to 30 variables, 20 seeds."""
    functions = {
        "a constant": lambda *i: 2.5 + 0.0 * sum(i),
        "a sum": lambda *i: 1.0 * sum(i),
        "a separable function": lambda *i: np.exp(-sum(i) / 9.0),
    }
    for name, f in functions.items():
        trains = [ct.tt_cross(f, rtol=1e-8, shape=(LENGTH,) * d, rng=s) for d in (2, 3, 8, 30) for s in range(20)]
        converged = sum(train.converged for train in trains)
        yield Line(f"{name}: runs converged", "all", f"{converged} of {len(trains)}", converged == len(trains))


def tucker(shape, rank, seed):
    """A random tensor of a multilinear rank, as a function."""
    rng = np.random.default_rng(seed)
    core, factors = rng.standard_normal((rank,) * len(shape)), [rng.standard_normal((d, rank)) for d in shape]
    letters = "abcdefgh"[: len(shape)]

    def f(*indices):
        rows = [factor[index] for factor, index in zip(factors, np.broadcast_arrays(*indices), strict=True)]
        return np.einsum(f"{letters},{','.join('...' + letter for letter in letters)}->...", core, *rows, optimize=True)

    return f


def few_variables():
    """`tensor_cur` of functions of low rank: the share of all entries that is read, and CPU beside the function's."""

    def reciprocal(*indices):
        return 1 / (1.0 + sum(indices))

    def waves(*indices):
        return np.cos(sum((n + 1) * index for n, index in enumerate(indices)) / 17) + 0.1 * sum(indices)

    ct.tensor_cur(reciprocal, 2, shape=(20,) * 3, rng=0)  # which loads what is loaded once
    for shape, target in (((40,) * 3, 0.5), ((12,) * 5, 0.05), ((18,) * 5, 0.015)):
        functions = {
            "a sum, rank 2": (lambda *i: 1.0 * sum(i), 2),
            "random, rank 2": (tucker(shape, 2, 0), 2),
            "random, rank 3": (tucker(shape, 3, 1), 3),
            "random, rank 4": (tucker(shape, 4, 2), 4),
            "1/(1+i+j+...), rank 3": (reciprocal, 3),
            "1/(1+i+j+...), rank 4": (reciprocal, 4),
            "waves, rank 4": (waves, 4),
        }
        shares, over, wrong, claimed = [], [], 0, 0
        for f, rank in functions.values():
            for seed in range(10):
                spent = [0.0]

                def timed(*indices, f=f, spent=spent):
                    start = time.process_time()
                    values = f(*indices)
                    spent[0] += time.process_time() - start
                    return values

                start = time.process_time()
                found = ct.tensor_cur(timed, rank, shape=shape, rng=seed)
                over.append(time.process_time() - start - 5 * spent[0])
                shares.append(found.n_entries_read / math.prod(shape))
                claimed += found.converged
                error = measured(f, lambda places, found=found: tucker_values(found, places), shape)
                wrong += error > max(2.5 * found.error_estimate, 1e-12)
        what = f"tensor_cur(f), {shape[0]}^{len(shape)}, {len(functions)} functions of low rank, 10 seeds"
        yield at_most(f"{what}: share of all entries read", target, max(shares), f" (median {np.median(shares):.4f})")
        yield at_most(f"{what}: CPU seconds over five times the function's own", 0.2, max(over))
        runs = len(shares)
        yield Line(f"{what}: runs converged", "all", f"{claimed} of {runs}", claimed == runs)
        yield Line(f"{what}: errors above 2.5 times the estimate", "0", str(wrong), wrong == 0)


def tucker_values(found, places):
    """Entries of a Tucker tensor at places."""
    letters = "abcdefgh"[: len(places)]
    rows = [factor[place] for factor, place in zip(found.factors, places, strict=True)]
    return np.einsum(f"{letters},{','.join('p' + letter for letter in letters)}->p", found.core, *rows, optimize=True)


def few_variables_exact():
    """Constants, sums and separable functions by `tensor_cur`: always converged; 2 to 6 variables."""
    functions = {
        "a constant": (lambda *i: 2.5 + 0.0 * sum(i), 1),
        "a sum": (lambda *i: 1.0 * sum(i), 2),
        "a separable function": (lambda *i: np.exp(-sum(i) / 9.0), 1),
    }
    for name, (f, rank) in functions.items():
        runs = [
            ct.tensor_cur(f, **given, shape=(LENGTH,) * d, rng=seed)
            for d in (2, 3, 4, 5, 6)
            for given in ({"ranks": rank}, {"ranks": rank + 1}, {"rtol": 1e-8})
            for seed in range(10)
        ]
        converged = sum(found.converged for found in runs)
        yield Line(
            f"tensor_cur of {name}: runs converged", "all", f"{converged} of {len(runs)}", converged == len(runs)
        )


def many_variables():
    """6 to 20 variables in Tucker form: memory is bounded, and what is too large is refused before it is asked for."""
    import tracemalloc

    for d in (6, 8, 10, 14, 20):
        read, outcome = [0], "a result"

        def f(*indices, read=read):
            values = 1 / (1.0 + sum(index**2 for index in indices))
            read[0] += values.size
            return values

        tracemalloc.start()
        for given in ({"ranks": 2}, {"ranks": 4}, {"rtol": 1e-3}):
            try:
                ct.tensor_cur(f, **given, shape=(LENGTH,) * d, rng=0)
            except ValueError as error:
                outcome = "refused in one sentence, which names tt_cross" if "tt_cross" in str(error) else str(error)
        peak = tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()
        yield at_most(f"tensor_cur(f) of {d} variables: MiB at most", 600, peak, f" ({outcome}; {read[0]} entries)")


CLAIMS = {
    "claims": claims,
    "teneva": teneva,
    "lost_peaks": lost_peaks,
    "integral": integral,
    "exact": exact,
    "few_variables": few_variables,
    "few_variables_exact": few_variables_exact,
    "many_variables": many_variables,
}


if __name__ == "__main__":
    command(CLAIMS)
