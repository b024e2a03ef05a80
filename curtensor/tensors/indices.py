"""Which slices of a tensor are kept, and the factor which fibres make with them.

A mode is seen by a block (d, p), whose columns are fibres of that mode or combinations of fibres.
"""

import math
from typing import NamedTuple

import numpy as np

from curtensor import selection
from curtensor.sketching import random_matrix, sparse_sign
from curtensor.unfolding import mode_product, unfold

KEPT = 2  # vectors of a basis, and singular values of U, over the rank
SPARE = 20  # columns of a compressed block beyond those of the basis
MIXED = 8  # combinations of the fibres of a mode, over its slices: with 4, and with dense ones, noise costs a bit more


class Choice(NamedTuple):
    """Slices chosen in a mode, a basis of its fibres, and the part of the block outside of `rank` singular vectors."""

    indices: np.ndarray
    basis: np.ndarray
    tail: float


def choose_slices(block, rank, size, rule, rng):
    """`Choice` of at most `size` slices on a block."""
    wanted = min(KEPT * rank, size)
    whole = np.linalg.norm(block)
    block = compressed(block, wanted + SPARE, rng)
    if not block.any():
        return Choice(np.zeros(1, dtype=np.intp), np.eye(len(block), 1, dtype=block.dtype), 0.0)
    basis, residual = selection.split_sketch(block, wanted)
    if rule in selection.SAMPLING_RULES:
        indices = rule(basis, residual, size, rng)
    else:
        indices = rule(block if rule in selection.SKETCH_RULES else basis, residual, basis.shape[1], rng)
        indices = selection.oversample(basis, residual, indices, size)
    lost = max(1 - (np.linalg.norm(block) / whole) ** 2, 0)
    beyond = np.linalg.norm(basis[:, rank:].conj().T @ block), np.linalg.norm(residual)
    return Choice(indices, basis, math.sqrt(sum((norm / whole) ** 2 for norm in beyond) + lost))


def compressed(block, size, rng):
    """The block's leading columns after a rotation of them, found by one step of subspace iteration."""
    if block.shape[1] <= size:
        return block
    test_matrix = rng.standard_normal((block.shape[1], size)).astype(block.real.dtype)
    Q = np.linalg.qr(block @ test_matrix)[0]
    return block @ np.linalg.qr(block.conj().T @ Q)[0]


def choices_by_sketch(entries, ranks, sizes, rule, rng):
    """`Choice` of each mode by a sequentially truncated HOSVD (Minster, Saibaba, Kilmer 2020) of the array's sketch.

    The sketched mode comes last, by the fibres through the chosen slices of the others.
    """
    last = entries.sketched_mode
    rest = entries.sketch(ranks[last], rng)
    choices = {}
    for mode in sorted(set(range(rest.ndim)) - {last}, key=lambda mode: rest.shape[mode]):
        choices[mode] = choose_slices(unfold(rest, mode), ranks[mode], sizes[mode], rule, rng)
        rest = mode_product(rest, choices[mode].basis.conj().T, mode)
    places = through([choices[mode].indices if mode in choices else [0] for mode in range(rest.ndim)], last)
    block = mixed_fibres(entries, last, places, sizes[last], rng)
    choices[last] = choose_slices(block, ranks[last], sizes[last], rule, rng)
    return [choices[mode] for mode in range(rest.ndim)]


def fibres(entries, mode, places):
    """The fibres of a mode through places (p,) in the others, as columns."""
    places = list(places)
    places[mode] = np.arange(entries.shape[mode])[:, None]
    return entries.at(places)


def mixed_fibres(entries, mode, places, size, rng):
    """Random combinations of the fibres of a mode, more than `size`, or the fibres themselves where these are few.

    They span what the fibres span, whatever the norms of these, which are read a few at a time.
    """
    mixing = random_matrix(sparse_sign, len(places[0]), MIXED * size, entries.dtype, rng)
    mixed = np.zeros((entries.shape[mode], mixing.shape[1]), entries.dtype)
    for start in range(0, len(places[0]), entries.fibres_at_once(mode)):
        part = slice(start, start + entries.fibres_at_once(mode))
        mixed += fibres(entries, mode, [place[part] for place in places]) @ mixing[part]
    return mixed


def through(indices, mode):
    """Places (p,) of the fibres of a mode through the chosen slices of the others: every combination of these."""
    grids = np.meshgrid(*(I if m != mode else [0] for m, I in enumerate(indices)), indexing="ij")
    return [grid.ravel() for grid in grids]


def fibre_factor(C, indices, rank):
    """``C U^+`` with U = C[indices] cut to its leading singular values; the pseudo-inverse itself is never formed."""
    W, s, Vh = np.linalg.svd(C[indices], full_matrices=False)
    count = min(KEPT * rank, np.count_nonzero(s > len(s) * np.finfo(s.dtype).eps * s[0]))
    return (C @ Vh[:count].conj().T / s[:count]) @ W[:, :count].conj().T
