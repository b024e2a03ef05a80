"""Which columns and rows of frozen weights the adapters are built from.

What is chosen is independent, whatever the rule: a basis of dependent columns is rounding, which another processor
rounds in another way, and a column of zeros is an adapter that never moves.
"""

import functools
import itertools

import numpy as np
import torch

from curtensor import _validation, operands
from curtensor.operands.arithmetic import orthonormal_rest
from curtensor.selection import (
    SELECTION_RULES,
    Rule,
    choose_from_sketch,
    pivots,
    sketch_size,
    weighted_sample,
)
from curtensor.sketching import random_matrix, sparse_sign

FLOOR = 1e-6  # of the mean squared norm: what counts as zero where probabilities are inverse to it
NOISE = 2  # times the dtype's epsilon, of its norm: what a vector must have outside of the others' span


def inverse_norm(squared_norms, k, rng):
    """Draw without replacement by inverse squared norms, as CURLoRA's paper does (Fawi 2024), with a relative floor."""
    return weighted_sample(1 / np.maximum(squared_norms, FLOOR * squared_norms.mean() or 1), k, rng)


# The library's rules look at a sketch; the inverse norms have to be exact, and are read of the weights themselves.
ADAPTER_RULES = SELECTION_RULES | {"inverse_norm": Rule(inverse_norm, sees="entries")}


def adapter_rule(method):
    """The `Rule` that a name or a function stands for."""
    return _validation.choose(ADAPTER_RULES, method, "method", Rule)


def choose_weight_columns(weights, k, rule, rng):
    """At most k independent ones of all the columns of weights (m, n): pairs of a weight's number and a column."""
    n = weights[0].shape[1]
    norms = np.concatenate([squared_column_norms(W) for W in weights])

    def column(number):
        return double(weights[number // n][:, number % n])[None]

    dtype = weights[0].dtype
    chosen = choose_independent(norms, lambda: sketched_columns(weights, k, rng), column, k, rule, rng, dtype)
    return np.stack(np.divmod(chosen, n), axis=1)


def choose_lateral_slices(weights, k, rule, rng):
    """At most k columns j for which ``W[:, j]`` is taken out of every weight, independent in each frequency."""
    norms = sum(squared_column_norms(W) for W in weights)

    def spectrum(j):
        return np.fft.rfft(np.stack([double(W[:, j]) for W in weights]), axis=0)

    return choose_independent(norms, lambda: sketched_slices(weights, k, rng), spectrum, k, rule, rng, weights[0].dtype)


def choose_fibres(weights, columns, rows, k, rule, rng):
    """At most k pairs of a row and a column, among some of both, whose entries in all weights are independent."""
    rows, columns = np.unique(rows), np.unique(columns)
    entries = np.stack([double(W[rows][:, columns]).ravel() for W in weights], axis=1)
    norms = (entries**2).sum(axis=1)
    chosen = choose_independent(norms, lambda: entries, lambda i: entries[i : i + 1], k, rule, rng, weights[0].dtype)
    i, j = np.divmod(chosen, len(columns))
    return np.stack([rows[i], columns[j]], axis=1)


def choose_independent(norms, sketch, vector, k, rule, rng, dtype):
    """What a rule chooses; in place of what depends on the others, what most of a sketch lies outside of their span."""
    sketch = functools.cache(sketch)
    chosen = rule(norms, k, rng) if rule.sees == "entries" else choose_from_sketch(sketch(), k, rule, rng)

    def others():
        rest = orthonormal_rest(sketch(), chosen) if len(chosen) else sketch()
        yield from pivots(rest, min(rest.shape))

    noise = NOISE * torch.finfo(dtype).eps
    return first_independent(itertools.chain(chosen, others()), vector, k, noise, norms.max() ** 0.5)


def first_independent(candidates, vector, k, noise, largest):
    """The first k candidates whose vectors lie outside of the span of those before them, in all their frequencies."""
    chosen, span = [], None
    for candidate in candidates:
        x = vector(candidate)[:, :, None]
        span = x[:, :, :0] if span is None else span
        rest = x
        for _ in range(2):
            rest = rest - span @ (span.conj().swapaxes(1, 2) @ rest)
        size, outside = (np.linalg.norm(X, axis=1, keepdims=True) for X in (x, rest))
        if (size > noise * largest).all() and (outside > noise * size).all():
            chosen.append(candidate)
            span = np.concatenate([span, rest / outside], axis=2)
        if len(chosen) == k:
            break
    return np.array(chosen, dtype=np.intp)


def enough(name, k, chosen):
    """What was chosen, if it is as many as wanted."""
    if len(chosen) < k:
        text = f"of numerical rank at least {k} for this adapter"
        raise _validation.complain(ValueError, f"the weight of {name!r}", text, len(chosen))
    return chosen


def sketched_columns(weights, k, rng):
    """A sketch of all the weights' columns, one row a column."""
    views = [operands.find(W) for W in weights]
    operand, A = views[0]
    m, n = A.shape
    Y = random_matrix(sparse_sign, m, sketch_size(k, n * len(views), m), operand.dtype(A), rng)
    return np.vstack([operand.rmatmat(A, Y) for operand, A in views])


def sketched_slices(weights, k, rng):
    """A sketch of what the weights have at each column, one row a column."""
    m, n = weights[0].shape
    size, sketch = sketch_size(k, n, m), 0
    for operand, A in map(operands.find, weights):
        sketch = sketch + operand.rmatmat(A, random_matrix(sparse_sign, m, size, operand.dtype(A), rng))
    return sketch


def squared_column_norms(W):
    """Squared norms of a weight's columns, in float64."""
    kind = torch.promote_types(W.dtype, torch.float32)
    return torch.linalg.vector_norm(W.detach(), dim=0, dtype=kind).double().cpu().numpy() ** 2


def double(X):
    """A tensor as a NumPy array in float64."""
    return X.detach().double().cpu().numpy()
