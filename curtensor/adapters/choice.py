"""Which columns and rows of frozen weights the adapters are built from."""

import numpy as np
import torch

from curtensor import _validation, operands
from curtensor.selection import SELECTION_RULES, Rule, choose_from_sketch, sketch_size, weighted_sample
from curtensor.sketching import random_matrix, sparse_sign

FLOOR = 1e-6  # of the mean squared norm: what counts as zero where probabilities are inverse to it


def inverse_norm(squared_norms, k, rng):
    """Draw without replacement by inverse squared norms, as CURLoRA's paper does (Fawi 2024), with a relative floor."""
    return weighted_sample(1 / np.maximum(squared_norms, FLOOR * squared_norms.mean() or 1), k, rng)


# The library's rules look at a sketch; the inverse norms have to be exact, and are read of the weights themselves.
ADAPTER_RULES = SELECTION_RULES | {"inverse_norm": Rule(inverse_norm, sees="entries")}


def adapter_rule(method):
    """The `Rule` that a name or a function stands for."""
    return _validation.choose(ADAPTER_RULES, method, "method", Rule)


def choose_weight_columns(weights, k, rule, rng):
    """At most k of all the columns of weights (m, n): pairs of the weight's number and the column, shape (k, 2)."""
    if rule.sees == "entries":
        chosen = rule(np.concatenate([squared_column_norms(W) for W in weights]), k, rng)
    else:
        views = [operands.find(W) for W in weights]
        operand, A = views[0]
        m, n = A.shape
        Y = random_matrix(sparse_sign, m, sketch_size(k, n * len(views), m), operand.dtype(A), rng)
        sketch = np.vstack([operand.rmatmat(A, Y) for operand, A in views])
        chosen = choose_from_sketch(sketch, k, rule, rng)
    return np.stack(np.divmod(chosen, weights[0].shape[1]), axis=1)


def choose_weight_rows(weights, k, rule, rng):
    """At most k of all the rows of weights (m, n): pairs of the weight's number and the row, shape (k, 2)."""
    return choose_weight_columns([W.T for W in weights], k, rule, rng)


def choose_lateral_slices(weights, k, rule, rng):
    """At most k columns j for which ``W[:, j]`` is taken out of every weight, shape (k,)."""
    if rule.sees == "entries":
        return rule(sum(squared_column_norms(W) for W in weights), k, rng)
    views = [operands.find(W) for W in weights]
    sketch = 0
    for operand, A in views:
        m, n = A.shape
        Y = random_matrix(sparse_sign, m, sketch_size(k, n, m), operand.dtype(A), rng)
        sketch = sketch + operand.rmatmat(A, Y)
    return choose_from_sketch(sketch, k, rule, rng)


def squared_column_norms(W):
    """Squared norms of a weight's columns, in float64."""
    kind = torch.promote_types(W.dtype, torch.float32)
    return torch.linalg.vector_norm(W.detach(), dim=0, dtype=kind).double().cpu().numpy() ** 2
