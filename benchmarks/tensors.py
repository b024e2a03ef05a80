"""Families of tensors that the benchmarks share: plain functions in one dict, (shape, seed) to a dense tensor.

The shape is the largest one wanted: a tensor of real data is cut to it, and may have other numbers of modes.
"""

import numpy as np

import curtensor as ct


def grid(shape):
    """Indices from 1 of each mode, to be broadcast."""
    return [index + 1.0 for index in np.ogrid[tuple(slice(0, length) for length in shape)]]


def hilbert(shape, seed):
    """1 / (i + j + k - 2)."""
    return 1 / (sum(grid(shape)) - len(shape) + 1)


def coulomb(shape, seed):
    """1 / sqrt(i^2 + j^2 + k^2)."""
    return 1 / np.sqrt(sum(index**2 for index in grid(shape)))


def gaussian_mixture(shape, seed):
    """Density of eight Gaussian bumps of random widths in a cube."""
    rng = np.random.default_rng(seed)
    X = np.zeros(shape)
    axes = [index / length for index, length in zip(grid(shape), shape, strict=True)]
    for centre, width in zip(rng.random((8, len(shape))), rng.uniform(0.03, 0.2, 8), strict=True):
        X += np.exp(-sum((axis - c) ** 2 for axis, c in zip(axes, centre, strict=True)) / (2 * width**2))
    return X


def low_rank(shape, rank, rng):
    """Of multilinear rank `rank` in each mode, and norm 1."""
    factors = [np.linalg.qr(rng.standard_normal((length, min(rank, length))))[0] for length in shape]
    X = ct.tucker_to_tensor(rng.standard_normal([U.shape[1] for U in factors]), factors)
    return np.ascontiguousarray(X) / np.linalg.norm(X)


def noise(shape, rng):
    """Normal entries, and norm 1."""
    X = rng.standard_normal(shape)
    return X / np.linalg.norm(X)


def low_rank_noise(shape, seed):
    """Rank 8 in each mode, and one percent of noise."""
    rng = np.random.default_rng(seed)
    return low_rank(shape, 8, rng) + 1e-2 * noise(shape, rng)


def little_noise(shape, seed):
    """Rank 8 in each mode, and noise of 1e-6."""
    rng = np.random.default_rng(seed)
    return low_rank(shape, 8, rng) + 1e-6 * noise(shape, rng)


def slow_decay(shape, seed):
    """Random orthogonal factors of a core that falls like 1 / (i + j + k)."""
    rng = np.random.default_rng(seed)
    lengths = [min(length, 60) for length in shape]
    factors = [np.linalg.qr(rng.standard_normal((n, m)))[0] for n, m in zip(shape, lengths, strict=True)]
    core = rng.standard_normal(lengths) / sum(grid(lengths)) ** 2
    return np.ascontiguousarray(ct.tucker_to_tensor(core, factors))


def rank_deficient(shape, seed):
    """Exactly of rank 5 in each mode."""
    return low_rank(shape, 5, np.random.default_rng(seed))


def spiky(shape, seed):
    """Low rank and noise, with one slice of each mode a hundred times as large."""
    rng = np.random.default_rng(seed)
    X = low_rank(shape, 4, rng) + 1e-3 * noise(shape, rng)
    scales = np.ones(shape)
    for mode, length in enumerate(shape):
        np.moveaxis(scales, mode, 0)[rng.integers(length)] = 100
    return X * scales


def spikes(shape, seed):
    """Low rank, and twenty single entries as large as the whole norm."""
    rng = np.random.default_rng(seed)
    X = low_rank(shape, 5, rng) + 1e-3 * noise(shape, rng)
    X[tuple(rng.integers(length, size=20) for length in shape)] += rng.standard_normal(20)
    return X


def coherent(shape, seed):
    """Low rank whose slices have Pareto-distributed scales in every mode, and a little noise."""
    rng = np.random.default_rng(seed)
    X = low_rank(shape, 8, rng)
    for mode, length in enumerate(shape):
        X *= (rng.pareto(1.2, length) + 1).reshape([-1 if n == mode else 1 for n in range(len(shape))])
    return X / np.linalg.norm(X) + 1e-3 * noise(shape, rng)


def counts(shape, seed):
    """Sparse counts of events with power-law margins and six topics."""
    rng = np.random.default_rng(seed)
    topics = [rng.dirichlet(np.full(length, 0.2), 6).T for length in shape]
    rates = ct.tucker_to_tensor(diagonal(6, len(shape)), topics)
    return rng.poisson(3 * rates * np.sqrt(rates.size) / rates.sum()).astype(float)


def diagonal(size, modes):
    """The identity as a tensor of so many modes."""
    X = np.zeros((size,) * modes)
    X[(np.arange(size),) * modes] = 1
    return X


def fourier_noise(shape, seed):
    """Smooth random field: few waves of low frequency with random phases, and noise."""
    rng = np.random.default_rng(seed)
    axes = [index / length for index, length in zip(grid(shape), shape, strict=True)]
    X = np.zeros(shape)
    for frequencies, phase in zip(rng.integers(1, 6, (12, len(shape))), rng.uniform(0, 2 * np.pi, 12), strict=True):
        X += np.cos(2 * np.pi * sum(f * axis for f, axis in zip(frequencies, axes, strict=True)) + phase)
    return X / np.linalg.norm(X) + 1e-2 * noise(shape, rng)


def cut(X, shape):
    """A corner of X, of at most this shape where both have as many modes."""
    return np.ascontiguousarray(X[tuple(slice(length) for length in shape[: X.ndim])], dtype=float)


def indian_pines(shape, seed):
    """Hyperspectral image of TensorLy, (145, 145, 200)."""
    from tensorly.datasets import load_indian_pines

    return cut(np.asarray(load_indian_pines().tensor), shape)


def kinetic(shape, seed):
    """Kinetic fluorescence of TensorLy, (64, 12, 10, 60), whole."""
    from tensorly.datasets import load_kinetic

    return np.asarray(load_kinetic().tensor, dtype=float)


def digits(shape, seed):
    """Handwritten digits of scikit-learn, (1797, 8, 8)."""
    from sklearn.datasets import load_digits

    return cut(load_digits().images, shape)


def photograph(shape, seed):
    """A colour photograph of scikit-learn, (427, 640, 3)."""
    from sklearn.datasets import load_sample_image

    return cut(load_sample_image("china.jpg"), shape)


def other_photograph(shape, seed):
    """The other colour photograph of scikit-learn, (427, 640, 3)."""
    from sklearn.datasets import load_sample_image

    return cut(load_sample_image("flower.jpg"), shape)


def unit(shape):
    """Coordinates from 0 to 1 of each mode, to be broadcast."""
    return np.ix_(*(np.linspace(0, 1, length) for length in shape))


def source(shape, wave_number, *origin):
    """The complex field of a point source, as wide as `wave_number` at the far end of the last mode."""
    *places, last = unit(shape)
    distance = np.sqrt(sum((x - x0) ** 2 for x, x0 in zip(places, origin, strict=True)))
    return np.exp(1j * wave_number * (0.1 + last) * distance) / distance


def damped(shape, rate, frequency):
    """A complex wave of a product of the coordinates, which dies away from a corner."""
    axes = unit(shape)
    return np.exp((-rate + 1j * frequency / 2) * sum(axes) + 1j * frequency * np.prod(np.broadcast_arrays(*axes), 0))


def packets(shape, count, width, frequency, seed):
    """Narrow wave packets at random places, each of its own direction and size."""
    rng, axes, X = np.random.default_rng(seed), unit(shape), np.zeros(shape, complex)
    for centre, direction, size in zip(
        rng.random((count, len(shape))),
        rng.standard_normal((count, len(shape))),
        10 ** rng.uniform(-3, 0, count),
        strict=True,
    ):
        distance = sum((x - c) ** 2 for x, c in zip(axes, centre, strict=True))
        phase = sum(d * x for d, x in zip(direction, axes, strict=True))
        X += size * np.exp(-distance / (2 * width**2) + 1j * frequency * phase)
    return X


def decaying(shape, ratio, seed, complex_too=False):
    """Noise in random orthogonal bases, whose singular values fall by a ratio in each mode."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal(shape) + (1j * rng.standard_normal(shape) if complex_too else 0)
    bases = [np.linalg.qr(rng.standard_normal((n, n)))[0] * ratio ** np.arange(n) for n in shape]
    return np.ascontiguousarray(ct.multi_mode_dot(X, bases))


def cornered(shape, ratio, seed):
    """Noise which falls off from a corner: few slices of each mode hold nearly all of the norm."""
    X = np.random.default_rng(seed).standard_normal(shape)
    return X * np.prod(np.broadcast_arrays(*(ratio**index for index in np.ogrid[tuple(map(slice, shape))])), 0)


def yukawa(shape, rate, *origin):
    """exp(-rate r) / r of the distance from a point outside the cube."""
    distance = np.sqrt(sum((x - x0) ** 2 for x, x0 in zip(unit(shape), origin, strict=True)))
    return np.exp(-rate * distance) / distance


# name -> () to a dense tensor; constants were chosen on others, but "damped in single precision" showed one too large
UNSEEN = {
    "source near a corner": lambda: source((96, 84, 40), 26, -0.03, -0.1),
    "source near an edge": lambda: source((70, 96, 60), 40, 0.4, -0.05),
    "source, 4 modes": lambda: source((32, 30, 28, 26), 15, -0.1, 0.3, -0.2),
    "standing wave": lambda: source((90, 80, 50), 30, -0.04, -0.07).real,
    "standing wave in single precision": lambda: source((90, 80, 50), 30, -0.07, -0.04).real.astype(np.float32),
    "damped": lambda: damped((80, 70, 60), 9, 50),
    "damped, longest mode last": lambda: damped((40, 60, 110), 5, 70),
    "damped, real": lambda: damped((64, 90, 72), 7, 60).imag,
    "damped, 4 modes": lambda: damped((30, 26, 34, 28), 6, 40),
    "damped in single precision": lambda: damped((80, 70, 60), 6, 50).astype(np.complex64),
    "narrow packets": lambda: packets((80, 90, 70), 20, 0.04, 40, 1),
    "packets, real": lambda: packets((96, 64, 64), 12, 0.08, 60, 2).real,
    "one packet and little noise": lambda: packets((80, 80, 80), 1, 0.05, 60, 3) + 1e-4 * noise((80,) * 3, rng_of(4)),
    "decaying": lambda: decaying((80, 70, 60), 0.8, 5),
    "decaying slowly, complex": lambda: decaying((60, 70, 80), 0.93, 6, True),
    "cornered": lambda: cornered((90, 70, 60), 0.75, 7),
    "cornered slowly": lambda: cornered((60, 70, 90), 0.92, 8),
    "Yukawa": lambda: yukawa((80, 90, 64), 8, -0.02, -0.03, -0.01),
    "Yukawa from a side": lambda: yukawa((64, 70, 100), 20, 0.5, 0.2, -0.02),
    "Hilbert, permuted": lambda: hilbert((60, 90, 80), 0)[rng_of(9).permutation(60)][:, :, rng_of(10).permutation(80)],
    "Coulomb, reversed": lambda: coulomb((90, 70, 80), 0)[::-1, :, ::-1],
    "low rank and more noise": lambda: low_rank((70, 80, 90), 14, rng_of(11)) + 0.05 * noise((70, 80, 90), rng_of(12)),
    "spikes in a corner": lambda: np.exp(5 * cornered((60, 60, 60), 0.8, 13)),
    "rank deficient": lambda: low_rank((70, 80, 60), 9, rng_of(14)),
    "image of Indian Pines": lambda: indian_pines((145, 145, 60), 0)[20:120, 40:],
    "kinetic": lambda: kinetic((1000,) * 4, 0),
    "part of a photograph": lambda: photograph((427, 640, 3), 0)[100:260, 200:380],
}


def rng_of(seed):
    return np.random.default_rng(seed)


# name -> (shape, seed) to a dense tensor of at most that shape
SMOOTH = {"Hilbert": hilbert, "Coulomb": coulomb, "Gaussian mixture": gaussian_mixture}
RANDOM = {
    "low rank + noise": low_rank_noise,
    "low rank + little noise": little_noise,
    "slow decay": slow_decay,
    "rank deficient": rank_deficient,
    "waves + noise": fourier_noise,
}
HOSTILE = {"spiky slices": spiky, "spikes": spikes, "coherent": coherent, "counts": counts}
REAL = {
    "Indian Pines": indian_pines,
    "kinetic": kinetic,
    "digits": digits,
    "photograph": photograph,
    "other photograph": other_photograph,
}
TENSORS = SMOOTH | RANDOM | HOSTILE | REAL
