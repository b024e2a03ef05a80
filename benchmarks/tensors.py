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
