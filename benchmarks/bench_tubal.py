"""Tubal SVD and CUR, and the t-product: time, memory, error over that of the tubal SVD of the same rank."""

import time
from functools import partial

import numpy as np

import curtensor
from benchmarks import common
from benchmarks.common import measured
from curtensor.tensors.tubal import TUBAL_CORES


def indian_pines():
    from tensorly.datasets import load_indian_pines

    return np.ascontiguousarray(load_indian_pines().tensor, dtype=float), 20


def photograph():
    from sklearn.datasets import load_sample_image

    return load_sample_image("flower.jpg").astype(float), 40


def coulomb():
    """1 / sqrt(i^2 + j^2 + k^2): smooth, with a steep spectrum."""
    i, j, k = np.meshgrid(*(np.arange(1.0, d + 1) for d in (200, 150, 64)), indexing="ij", sparse=True)
    return 1 / np.sqrt(i**2 + j**2 + k**2), 8


def coherent():
    """A tubal rank of 10 and a little noise, the horizontal and lateral slices of very different sizes."""
    rng = np.random.default_rng(0)
    X = curtensor.t_product(rng.standard_normal((200, 10, 31)), rng.standard_normal((10, 150, 31)))
    X *= rng.pareto(1.2, (200, 1, 1)) + 1
    X *= rng.pareto(1.2, (150, 1)) + 1
    return X + 1e-3 * np.linalg.norm(X) / np.sqrt(X.size) * rng.standard_normal(X.shape), 10


# name -> () to a tensor and a tubal rank
TENSORS = {"Indian Pines": indian_pines, "photograph": photograph, "Coulomb": coulomb, "coherent": coherent}


def cur(core):
    """(X, rank, seed) to the tubal CUR with twice as many slices as the rank."""

    def decompose(X, rank, seed):
        sizes = {"n_columns": 2 * rank, "n_rows": 2 * rank}
        return curtensor.tubal_cur(X, rank, core=core, rng=seed, **sizes).to_array()

    return decompose


def tubal_svd(X, rank, seed):
    return curtensor.tubal_svd(X, rank).to_array()


def whole_transform_svd(X, rank, seed):
    """The tubal SVD as it is usually written: every slice of the whole transform, one after the other."""
    Z = np.fft.fft(X, axis=2)
    for k in range(X.shape[2]):
        U, s, Vh = np.linalg.svd(Z[:, :, k], full_matrices=False)
        Z[:, :, k] = U[:, :rank] * s[:rank] @ Vh[:rank]
    return np.fft.ifft(Z, axis=2).real


METHODS = {f"tubal CUR, {core}": cur(core) for core in TUBAL_CORES} | {
    "tubal SVD": tubal_svd,
    "tubal SVD, slice by slice of the whole transform": whole_transform_svd,
}


class Tubal(common.Comparison):
    """Time with the approximation formed, and error."""

    params = (list(METHODS), list(TENSORS))

    def setup_cache(self):
        return common.outcomes(METHODS, {name: partial(self.tensor, name) for name in TENSORS}, self.figures)

    def tensor(self, family):
        """A tensor, the rank, and the error of its tubal SVD."""
        X, rank = TENSORS[family]()
        return X, rank, np.linalg.norm(X - curtensor.tubal_svd(X, rank).to_array())

    def figures(self, method, data):
        X, rank, best = data
        return measured(lambda seed: method(X, rank, seed), lambda Y: [np.linalg.norm(X - Y) / best])

    def track_error(self, cache, method, family):
        return cache[method, family][1]

    track_error.unit = "error / that of the tubal SVD"


class Memory:
    """Peak memory, which hardly depends on the entries: one tensor."""

    params = list(METHODS)
    param_names = ("method",)

    def setup(self, method):
        self.X, self.rank = TENSORS["coherent"]()
        METHODS[method](self.X[:20, :20].copy(), 2, 0)  # compiles, imports, starts BLAS

    def peakmem_method(self, method):
        METHODS[method](self.X, self.rank, 0)


class TProduct:
    params = (["t_product", "whole transform"], [(100, 100, 200), (20, 20, 5000), (400, 400, 3)])
    param_names = ("method", "shape")
    timer = time.process_time

    def setup(self, method, shape):
        rng = np.random.default_rng(0)
        self.X, self.Y = rng.standard_normal(shape), rng.standard_normal((shape[1], shape[0], shape[2]))

    def time_product(self, method, shape):
        if method == "t_product":
            curtensor.t_product(self.X, self.Y)
        else:
            X, Y = np.fft.fft(self.X, axis=2), np.fft.fft(self.Y, axis=2)
            np.fft.ifft(np.einsum("ilk,ljk->ijk", X, Y, optimize=True), axis=2)
