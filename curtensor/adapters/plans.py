"""How each kind of adapter is built: options checked first, the weights decomposed after.

A plan takes the names and weights (m, n) of a unit, one layer or a group, and its options. It returns a function from a
random stream to the unit's deltas.
"""

import numpy as np
import torch

from curtensor import _validation
from curtensor.adapters.choice import (
    adapter_rule,
    choose_lateral_slices,
    choose_weight_columns,
    choose_weight_rows,
)
from curtensor.adapters.deltas import (
    BASES,
    FORMS,
    AdaLoRA,
    CURLoRA,
    LoRA,
    TCURLoRA,
    columns_at,
    orthonormal,
    projected_weights,
    trained_dtype,
)
from curtensor.selection import choose_from_sketch

INITS = ("kaiming", "cur", "cur_residual")


def plan_lora(names, weights, *, rank, alpha, init, method):
    """Checks of the options for a layer; what builds its delta from a random stream."""
    (name,), (weight,) = names, weights
    rank = rank_of(name, rank, weight.shape)
    alpha = 2.0 * rank if alpha is None else _validation.positive(alpha, "alpha")
    init = _validation.one_of(INITS, init, "init")
    rule = adapter_rule(method)

    def build(rng):
        m, n = weight.shape
        if init == "kaiming":
            A, B = rng.uniform(-1, 1, (rank, n)) / np.sqrt(n), np.zeros((m, rank))
        elif init == "cur":
            A, B = cur_rows(name, weight, rank, rule, rng), np.zeros((m, rank))
        else:
            A, B = cur_factors(name, weight, rank, rule, rng, alpha / rank)
        A, B = (torch.from_numpy(X).to(weight.device, trained_dtype(weight)) for X in (A, B))
        return [LoRA(A, B, alpha=alpha, start=init == "cur_residual")]

    return build


def cur_rows(name, weight, rank, rule, rng):
    """Orthonormal basis of chosen rows, as large as LoRA's random A (each row of squared norm 1/3)."""
    rows = enough(name, rank, choose_weight_rows([weight], rank, rule, rng))
    return orthonormal(columns_at([weight.T], rows).double()).T.cpu().numpy() / np.sqrt(3)


def cur_factors(name, weight, rank, rule, rng, scale):
    """Balanced A and B with scale B A the CUR of the weight with the projection core."""
    columns = enough(name, rank, choose_weight_columns([weight], rank, rule, rng))
    rows = enough(name, rank, choose_weight_rows([weight], rank, rule, rng))
    C = orthonormal(columns_at([weight], columns).double())
    R = orthonormal(columns_at([weight.T], rows).double()).T
    U, s, Vh = np.linalg.svd(projected_weights(weight, C, R))
    root = np.sqrt(s / scale)
    return root[:, None] * Vh @ R.cpu().numpy(), C.cpu().numpy() @ U * root


def plan_curlora(names, weights, *, rank, scale, basis, method):
    """Checks of the options for a layer; what builds its delta from a random stream."""
    (name,), (weight,) = names, weights
    rank = rank_of(name, rank, weight.shape)
    scale = _validation.positive(scale, "scale")
    basis = _validation.one_of(BASES, basis, "basis")
    rule = adapter_rule(method)

    def build(rng):
        columns = enough(name, rank, choose_weight_columns([weight], rank, rule, rng))
        rows = enough(name, rank, choose_weight_rows([weight], rank, rule, rng))
        return [CURLoRA(weight, columns[:, 1], rows[:, 1], basis=basis, scale=scale)]

    return build


def plan_adalora(names, weights, *, rank, alpha, method):
    """Checks of the options for a layer; what builds its delta from a random stream."""
    (name,), (weight,) = names, weights
    rank = rank_of(name, rank, weight.shape)
    alpha = 2.0 * rank if alpha is None else _validation.positive(alpha, "alpha")
    rule = adapter_rule(method)

    def build(rng):
        wide = weight if weight.dtype == torch.float64 else weight.float()
        P = orthonormal(columns_at([wide], enough(name, rank, choose_weight_columns([weight], rank, rule, rng))))
        Q = orthonormal(
            columns_at([wide.T], enough(name, rank, choose_weight_rows([weight], rank, rule, rng)))
        ).T.contiguous()
        return [AdaLoRA(P, Q, alpha=alpha)]

    return build


def plan_tcurlora(names, weights, *, ranks, scale, form, factor_rank, basis, method):
    """Checks of the options for a group of layers; what builds its deltas from a random stream."""
    for name, weight in zip(names, weights, strict=True):
        for what, own, first in (
            ("shape", tuple(weight.shape), tuple(weights[0].shape)),
            ("dtype", weight.dtype, weights[0].dtype),
            ("device", weight.device, weights[0].device),
        ):
            if own != first:
                text = f"of {what} {first} as that of {names[0]!r} in its group"
                raise _validation.complain(ValueError, f"the weight of {name!r}", text, own)
    group = FORMS[_validation.one_of(FORMS, form, "form")]
    ranks = ranks_of(names, ranks, (*weights[0].shape, len(weights)), group)
    scale = _validation.positive(scale, "scale")
    basis = _validation.one_of(BASES, basis, "basis")
    rule = adapter_rule(method)
    factor_rank = _validation.integer(factor_rank, "factor_rank", 1, 10**6)
    options = {"basis": basis} | ({"factor_rank": factor_rank} if group.factored else {})
    choose = chosen_slices if group.whole_slices else chosen_modes

    def build(rng):
        group_of_layers = group(weights, *choose(names[0], weights, ranks, rule, rng), rng=rng, **options)
        return TCURLoRA.of_group(group_of_layers, len(weights), scale=scale, **options)

    return build


def chosen_slices(name, weights, ranks, rule, rng):
    """Lateral and horizontal slices of the stacked weights."""
    columns = enough(name, ranks[0], choose_lateral_slices(weights, ranks[0], rule, rng))
    return columns, enough(name, ranks[1], choose_lateral_slices([W.T for W in weights], ranks[1], rule, rng))


def chosen_modes(name, weights, ranks, rule, rng):
    """Columns and rows of the weights side by side, and the fibres of the third mode."""
    columns = enough(name, ranks[0], choose_weight_columns(weights, ranks[0], rule, rng))
    rows = enough(name, ranks[1], choose_weight_rows(weights, ranks[1], rule, rng))
    return columns, rows, choose_fibres(name, weights, columns[:, 1], rows[:, 1], ranks[2], rule, rng)


def choose_fibres(name, weights, columns, rows, r3, rule, rng):
    """Rows and columns of the entries, within the chosen ones, that span the layers; none where r_3 = L."""
    if r3 == len(weights):
        return np.zeros((0, 2), dtype=int)
    rows, columns = np.unique(rows), np.unique(columns)
    entries = np.stack([W[rows][:, columns].double().cpu().numpy().ravel() for W in weights], axis=1)
    if rule.sees == "entries":
        chosen = rule((entries**2).sum(axis=1), r3, rng)
    else:
        chosen = choose_from_sketch(entries, r3, rule, rng)
    i, j = np.divmod(enough(name, r3, chosen), len(columns))
    return np.stack([rows[i], columns[j]], axis=1)


def rank_of(name, rank, shape):
    """A rank of at most min(shape)."""
    return _validation.integer(rank, f"rank of {name!r}", 1, min(shape))


def ranks_of(names, ranks, shape, group):
    """(r_1, r_2, r_3), each at most the length of its mode; for the t-product (k, k, L)."""
    what = f"ranks of the group of {names[0]!r}"
    if isinstance(ranks, (tuple, list)):
        if len(ranks) != 3 or group.whole_slices:
            text = "an int" if group.whole_slices else "an int or three ints"
            raise _validation.complain(ValueError, what, text, _validation.describe(ranks))
    else:
        rank = _validation.integer(ranks, what, 1, min(shape[:2]))
        ranks = rank, rank, shape[2]
    return [
        _validation.integer(r, f"{what}: r_{mode}", 1, size)
        for mode, (r, size) in enumerate(zip(ranks, shape, strict=True), 1)
    ]


def enough(name, rank, chosen):
    """What was chosen, if it is as many as wanted."""
    if len(chosen) < rank:
        text = f"of numerical rank at least {rank} for this adapter"
        raise _validation.complain(ValueError, f"the weight of {name!r}", text, len(chosen))
    return chosen
