"""Which slices of a tensor are kept, and the factor which fibres make with them.

A mode is seen by a block (d, p), whose columns are fibres of that mode or combinations of fibres.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy import linalg

from curtensor import _validation, selection
from curtensor.operands.arithmetic import careful_svd
from curtensor.operands.dense_tensor import DenseTensor
from curtensor.operands.tensor_blocks import norm
from curtensor.sketching import random_matrix, sparse_sign

KEPT = 2  # vectors of a basis, and singular values of U, over the rank
ROUNDING = 16  # epsilons of the norm, below which all is taken for rounding
SPARE = 20  # columns of a compressed block beyond those of the basis
MIXED = 16  # combinations of the fibres of a mode, over its slices: with fewer, noise costs more


class Choice(NamedTuple):
    """Slices chosen in a mode, a basis of its fibres, and the part of the block outside of `rank` singular vectors."""

    indices: np.ndarray
    basis: np.ndarray
    tail: float


def choose_slices(X, rank, size, rule, rng, mode=0):
    """`Choice` of at most `size` slices of a mode of a tensor, on all fibres of that mode."""
    wanted = min(KEPT * rank, size)
    block, whole = compressed(X, mode, wanted + SPARE, rng)
    if not block.any():
        return Choice(np.zeros(1, dtype=np.intp), np.eye(len(block), 1, dtype=block.dtype), 0.0)
    rounding = ROUNDING * np.finfo(block.dtype).eps * whole
    basis, residual = selection.split_sketch(block, wanted)
    sizes = np.linalg.norm(basis.conj().T @ block, axis=1)
    basis, sizes = basis[:, sizes > rounding], sizes[sizes > rounding]
    if np.linalg.norm(residual) <= rounding:  # another in each memory order: nothing to choose by
        residual = residual[:, :0]
    if rule.beyond_rank:
        indices = _validation.rule_choice(rule(basis, residual, size, rng), len(basis), size)
    else:
        seen = block if rule.sees == "sketch" else basis
        most = basis.shape[1]
        indices = _validation.rule_choice(rule(seen, residual, most, rng), len(basis), most)
        indices = selection.oversample(basis, residual, indices, size)
    lost = max(1 - (np.linalg.norm(block) / whole) ** 2, 0)
    beyond = np.linalg.norm(sizes[rank:]), np.linalg.norm(residual)
    return Choice(indices, basis, math.sqrt(sum((norm / whole) ** 2 for norm in beyond) + lost))


def compressed(X, mode, size, rng):
    """An unfolding's leading columns after a rotation of them, by one step of subspace iteration, and its norm.

    Piece by piece, so that a tensor need not be copied, and in an order that its layout in memory does not change.
    """
    if X.size // X.shape[mode] <= size:
        block = X.unfolded(mode)
        return block, np.linalg.norm(block)
    parts, width = [], 0
    seen, norms = np.zeros((X.shape[mode], size), X.dtype), []
    for piece in X.columns(mode):
        parts.append(slice(width, width + piece.shape[1]))
        width = parts[-1].stop
        seen += piece @ rng.standard_normal((piece.shape[1], size)).astype(seen.real.dtype)
        norms.append(norm(piece))
    if width == 0:
        return seen, 0.0
    Q = np.linalg.qr(seen)[0]
    V = np.empty((width, Q.shape[1]), X.dtype, order="F")
    for part, piece in zip(parts, X.columns(mode), strict=True):
        V[part] = piece.conj().T @ Q
    V = linalg.qr(V, mode="economic", overwrite_a=True, check_finite=False)[0]
    block = np.zeros((X.shape[mode], V.shape[1]), X.dtype)
    for part, piece in zip(parts, X.columns(mode), strict=True):
        block += piece @ V[part]
    return block, np.linalg.norm(norms)


def choices_by_sketch(entries, ranks, sizes, rule, rng):
    """`Choice` of each mode by a sequentially truncated HOSVD (Minster, Saibaba, Kilmer 2020) of the array's sketch.

    The sketched mode comes last, by the fibres through the chosen slices of the others.
    """
    last = entries.sketched_mode
    rest = entries.sketch(ranks[last], rng)
    choices = {}
    for mode in sorted(set(range(rest.ndim)) - {last}, key=lambda mode: rest.shape[mode]):
        choices[mode] = choose_slices(rest, ranks[mode], sizes[mode], rule, rng, mode)
        rest = rest.mode_product(choices[mode].basis.conj().T, mode)
    places = through([choices[mode].indices if mode in choices else [0] for mode in range(rest.ndim)], last)
    block = mixed_fibres(entries, last, places, sizes[last], rng)
    choices[last] = choose_slices(DenseTensor(block), ranks[last], sizes[last], rule, rng)
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
    W, s, Vh = careful_svd(C[indices])
    count = min(KEPT * rank, np.count_nonzero(s > 8 * np.finfo(s.dtype).eps * s[0]))
    return (C @ Vh[:count].conj().T / s[:count]) @ W[:, :count].conj().T
