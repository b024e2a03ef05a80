"""Which slices of a tensor are kept, and the factor which fibres make with them.

A mode is seen by a block (d, p), whose columns are fibres of that mode or combinations of fibres.
"""

import math
from typing import NamedTuple

import numpy as np

from curtensor import _validation, selection
from curtensor.unfolding import mode_product, mode_products, unfold

KEPT = 2  # vectors of a basis, and singular values of U, over the rank
SPARE = 20  # columns of a compressed block beyond those of the basis
SHARE = 8  # fibres through the chosen slices are read where they are at most one in so many of all


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
        indices = _validation.rule_choice(rule(basis, residual, size, rng), len(basis), size)
    else:
        seen = block if rule in selection.SKETCH_RULES else basis
        most = basis.shape[1]
        indices = _validation.rule_choice(rule(seen, residual, most, rng), len(basis), most)
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

    The sketched mode comes last: by fibres through the chosen slices of the others, or by the array projected on the
    others' bases where the fibres would be a good part of it.
    """
    last = entries.sketched_mode
    rest = entries.sketch(ranks[last], rng)
    choices = {}
    for mode in sorted(set(range(rest.ndim)) - {last}, key=lambda mode: rest.shape[mode]):
        choices[mode] = choose_slices(unfold(rest, mode), ranks[mode], sizes[mode], rule, rng)
        rest = mode_product(rest, choices[mode].basis.conj().T, mode)
    places = mesh([choices[mode].indices if mode in choices else [0] for mode in range(rest.ndim)])
    if len(places[last]) * SHARE <= entries.X.size // entries.shape[last]:
        block = fibres(entries, last, places)
    else:
        bases = {mode: choice.basis.conj().T for mode, choice in choices.items()}
        block = unfold(mode_products(entries.X, bases), last)
    choices[last] = choose_slices(block, ranks[last], sizes[last], rule, rng)
    return [choices[mode] for mode in range(rest.ndim)]


def fibres(entries, mode, places):
    """The fibres of a mode through places (p,) in the others, as columns."""
    places = list(places)
    places[mode] = np.arange(entries.shape[mode])[:, None]
    return entries.at(places)


def mesh(indices):
    """Every combination of one index from each list, as an array of places (p,) for each."""
    return [grid.ravel() for grid in np.meshgrid(*indices, indexing="ij")]


def fibre_factor(C, indices, rank):
    """``C U^+`` with U = C[indices] cut to its leading singular values; the pseudo-inverse itself is never formed."""
    W, s, Vh = np.linalg.svd(C[indices], full_matrices=False)
    count = min(KEPT * rank, np.count_nonzero(s > len(s) * np.finfo(s.dtype).eps * s[0]))
    return (C @ Vh[:count].conj().T / s[:count]) @ W[:, :count].conj().T
