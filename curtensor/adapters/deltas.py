"""Updates of frozen weights out of their own columns and rows: CURLoRA and tCURLoRA.

W is a weight (m, n), out by in, which acts on x in rows: ``x @ W.T``. A delta is a module that holds an update of W as
thin factors around a small matrix that is trained. What is not trained is a buffer: the indices of the chosen columns
and rows, which files hold, and the factors, which are made of them out of the base weights, here and after loading.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from curtensor import _validation, operands
from curtensor.adapters.choice import (
    NOISE,
    choose_fibres,
    choose_lateral_slices,
    choose_weight_columns,
    double,
    enough,
)

NEAR = 0.02  # of a column's norm: what half precision may change in a base, and another base does not keep to


class CoreDelta(nn.Module):
    """``scale C M R`` with frozen C (m, r_1), R (r_2, n) and a small M that is trained, the `thin_factors`."""

    def ready_factors(self):
        """The thin factors, if they are made."""
        C, M, R = self.thin_factors()
        if C is None:
            raise _validation.complain(ValueError, "an adapter", "loaded before it is used", "one whose file is not")
        return C, M, R

    def forward(self, x):
        """``x @ matrix().T`` by thin products; integers in x stand for rows of the identity."""
        C, M, R = self.ready_factors()
        y = F.linear(self.dropout(x.to(R.dtype)), R) if x.is_floating_point() else F.embedding(x, R.T)
        return F.linear(F.linear(y.to(M.dtype), M).to(C.dtype), C)

    def lora_factors(self):
        """B (m, r) and A (r, n) with ``matrix() == B @ A``: ``scale C M`` and R."""
        C, M, R = self.ready_factors()
        return C.to(M.dtype) @ M, R

    def matrix(self):
        """The update (m, n)."""
        B, A = self.lora_factors()
        return B @ A.to(B.dtype)


class ChosenLines(nn.Module):
    """What is made of chosen columns and rows of L weights (m, n), which may be one.

    `places` are the layers that the weights are of, and the numbers which they have there.

    A subclass has buffers of indices, -1 until these are chosen or loaded. It says how they are chosen (`picked`) and
    what is made of them (`factors`), each by the buffer's name.
    """

    made: tuple[str, ...] = ("C", "R")
    linear = True  # whether the update is, in what is trained

    def __init__(self, weights, n_columns, n_rows, basis, **shapes):
        super().__init__()
        self.basis, self.places = basis, ()
        for name, shape in shapes.items():
            self.register_buffer(name, weights[0].new_full(shape, -1, dtype=torch.int32) if shape else None)
        size = 2 * (n_columns + n_rows)  # bytes of bfloat16 numbers, whose dtype `.to` would change
        self.register_buffer("fingerprint", weights[0].new_zeros(len(weights), size, dtype=torch.uint8))
        for name in self.made:
            self.register_buffer(name, None, persistent=False)
        self.register_load_state_dict_post_hook(made_again)

    def sources(self):
        """The weights' names, and themselves."""
        found = {id(layer): layer.matrices() for layer, _ in self.places}
        return tuple([found[id(layer)][part][number] for layer, number in self.places] for part in (0, 1))

    def limits(self, weights):
        """What each column of the buffers of indices has to be below."""
        m, n = weights[0].shape
        return {"columns": [n], "rows": [m]}

    @torch.no_grad()
    def choose(self, names, weights, rule, rng):
        """Choose indices by a rule, and make the frozen factors."""
        for name, indices in self.picked(names, weights, rule, rng).items():
            getattr(self, name).copy_(torch.from_numpy(indices))
        self.fingerprint.copy_(torch.from_numpy(self.prints(weights)[0]).bfloat16().view(torch.uint8))
        self.make(names, weights)

    @torch.no_grad()
    def make(self, names, weights):
        """Make the frozen factors of the indices, if these are sound and the weights those they were chosen of."""
        for name, sizes in self.limits(weights).items():
            indices = host(getattr(self, name))
            pairs = indices.reshape(len(indices), -1)
            if (pairs < 0).any() or (pairs >= sizes).any() or len(np.unique(pairs, axis=0)) < len(pairs):
                what = f"the {name} of the adapter of {names[0]!r}"
                text = f"distinct and below {', '.join(map(str, sizes))}"
                raise _validation.complain(ValueError, what, text, _validation.describe(indices.tolist()))
        prints = double(self.fingerprint.clone().view(torch.bfloat16))
        for name, found, norms, wanted in zip(names, *self.prints(weights), prints, strict=True):
            if not (np.abs(found - wanted) <= NEAR * norms).all():
                text = "that of the base model which the adapter was made for"
                raise _validation.complain(ValueError, f"the weight of {name!r}", text, "another")
        for name, factor in self.factors(names, weights).items():
            setattr(self, name, factor)

    def has_bases_of(self, other):
        """Whether another one's frozen factors are the same, of the same weights."""
        alike = type(self) is type(other) and self.basis == other.basis and self.places == other.places
        pairs = zip(self.buffers(), other.buffers(), strict=False)
        return alike and all(torch.equal(ours, theirs) for ours, theirs in pairs)

    def prints(self, weights):
        """A number for each chosen column and row of each weight, and their norms: two arrays (L, r_1 + r_2)."""
        columns, rows = (host(X).reshape(len(X), -1)[:, -1] for X in (self.columns, self.rows))
        prints, norms = [], []
        for W in weights:
            lines = [double(W[:, columns]), double(W[rows]).T]
            prints.append(np.concatenate([np.cos(np.arange(len(X))) @ X for X in lines]))
            norms.append(np.concatenate([np.linalg.norm(X, axis=0) for X in lines]))
        return np.stack(prints), np.stack(norms)


def made_again(unit, incompatible_keys):
    """After loading: the frozen factors, of the indices that were loaded."""
    if not (unit.columns < 0).any():
        unit.make(*unit.sources())


class CURLoRA(ChosenLines, CoreDelta):
    """``scale C U R`` out of k columns and k rows of a weight; U, zero at first, is trained: k^2 numbers."""

    def __init__(self, weights, rank, *, basis, scale, dropout):
        super().__init__(weights, rank, rank, basis, indices=(2, rank))
        self.scale, self.dropout = scale, dropout
        self.U = nn.Parameter(weights[0].new_zeros(rank, rank))

    columns = property(lambda self: self.indices[0])
    rows = property(lambda self: self.indices[1])

    def picked(self, names, weights, rule, rng):
        """Columns and rows of the weight."""
        columns, rows = chosen_lines(names[0], weights, *self.U.shape, rule, rng)
        return {"columns": columns[:, 1], "rows": rows[:, 1]}

    def factors(self, names, weights):
        """C and R."""
        W = weights[0]
        lines = (W[:, host(self.columns)], W[host(self.rows)].T)
        C, R = (spanning(names[0], X, self.basis).to(W) for X in lines)
        return {"C": C, "R": R.T.contiguous()}

    def thin_factors(self):
        """C, scale U, R."""
        return self.C, self.scale * self.U, self.R


class ModeBases(ChosenLines):
    """Frozen factors of the three modes of L weights side by side: C (m, r_1), R^T (n, r_2) and third (L, r_3).

    Columns and rows are pairs of a weight's number and its column or row; fibres are pairs of a row and a column, whose
    entries in all weights span the third mode. There are none where r_3 = L, whose factor is the identity.
    """

    made: tuple[str, ...] = ("C", "R", "third")

    def __init__(self, weights, ranks, *, basis):
        fibres = (ranks[2], 2) if ranks[2] < len(weights) else None
        super().__init__(weights, *ranks[:2], basis, columns=(ranks[0], 2), rows=(ranks[1], 2), fibres=fibres)

    def picked(self, names, weights, rule, rng):
        """Columns and rows of all the weights, and fibres through them."""
        columns, rows = chosen_lines(names[0], weights, len(self.columns), len(self.rows), rule, rng)
        if self.fibres is None:
            return {"columns": columns, "rows": rows}
        k = len(self.fibres)
        fibres = enough(names[0], k, choose_fibres(weights, columns[:, 1], rows[:, 1], k, rule, rng))
        return {"columns": columns, "rows": rows, "fibres": fibres}

    def factors(self, names, weights):
        """C, R and the third mode's factor."""
        C, R = columns_at(weights, host(self.columns)), columns_at([W.T for W in weights], host(self.rows))
        C, R = (spanning(names[0], X, self.basis).to(weights[0]) for X in (C, R))
        if self.fibres is None:
            third = torch.eye(len(weights), dtype=torch.float64)
        else:
            rows, columns = host(self.fibres).T.tolist()
            third = spanning(names[0], torch.stack([W[rows, columns] for W in weights]), self.basis)
        dtype = torch.promote_types(weights[0].dtype, torch.float32)
        return {"C": C, "R": R.T.contiguous(), "third": third.to(weights[0].device, dtype)}

    def limits(self, weights):
        """What each column of the buffers of indices has to be below."""
        m, n = weights[0].shape
        limits = {"columns": [len(weights), n], "rows": [len(weights), m]}
        return limits if self.fibres is None else limits | {"fibres": [m, n]}


class SharedCore(ModeBases):
    """``S x_1 C x_2 R^T x_3 third``, S (r_1, r_2, r_3) trained, zero at first: r_1 r_2 r_3 numbers for L weights."""

    def __init__(self, weights, ranks, *, basis, factor_rank):
        super().__init__(weights, ranks, basis=basis)
        self.core = nn.Parameter(weights[0].new_zeros(tuple(ranks)))

    def middle(self, layer):
        """M (r_1, r_2) of one layer: the core times its row of the third mode's factor."""
        return self.core @ self.third[layer].to(self.core.dtype)


class ModeFactors(ModeBases):
    """The weights' own Tucker core S_0, with ``I + B_n A_n`` trained in each mode, less S_0 itself.

    B_n (r_n, p) is zero at first, A_n (p, r_n) random, p = min(factor_rank, r_n): 2 p r_n numbers for mode n.
    """

    linear = False
    made = (*ModeBases.made, "core")

    def __init__(self, weights, ranks, *, basis, factor_rank):
        super().__init__(weights, ranks, basis=basis)
        sizes = [(min(factor_rank, r), r) for r in ranks]
        self.A = nn.ParameterList([weights[0].new_zeros(p, r) for p, r in sizes])
        self.B = nn.ParameterList([weights[0].new_zeros(r, p) for p, r in sizes])

    def choose(self, names, weights, rule, rng):
        """Choose indices by a rule, make the frozen factors, and draw A."""
        super().choose(names, weights, rule, rng)
        for A in self.A:
            A.data.copy_(torch.from_numpy(rng.standard_normal(A.shape) / np.sqrt(A.shape[1])))

    def factors(self, names, weights):
        """C, R, the third mode's factor and the core of the weights themselves."""
        factors = super().factors(names, weights)
        small = np.stack([projected_weights(W, factors["C"], factors["R"]) for W in weights], axis=2)
        return factors | {"core": torch.from_numpy(small).to(factors["third"]) @ factors["third"]}

    def middle(self, layer):
        """M (r_1, r_2) of one layer."""
        A, B = self.A, self.B
        core, row = self.core.to(A[0].dtype), self.third[layer].to(A[0].dtype)
        turned = core @ (row + (row @ B[2]) @ A[2])
        turned = turned + B[0] @ (A[0] @ turned)
        return turned + (turned @ A[1].T) @ B[1].T - core @ row


class TubalProduct(ChosenLines):
    """``C * U * R`` by the t-product, U (k, k, L) trained, zero at first: L k^2 numbers (He and others 2025).

    C (m, k, L) and R (k, n, L) are the chosen lateral and horizontal slices of the stacked weights, held side by side.
    """

    def __init__(self, weights, ranks, *, basis, factor_rank):
        super().__init__(weights, *ranks[:2], basis, columns=ranks[:1], rows=ranks[1:2])
        self.core = nn.Parameter(weights[0].new_zeros(tuple(ranks)))

    def picked(self, names, weights, rule, rng):
        """Lateral and horizontal slices."""
        sides = {"columns": weights, "rows": [W.T for W in weights]}
        k = len(self.columns)
        return {name: enough(names[0], k, choose_lateral_slices(own, k, rule, rng)) for name, own in sides.items()}

    def factors(self, names, weights):
        """C and R."""
        C, R = ([W[:, host(self.columns)] for W in weights], [W.T[:, host(self.rows)] for W in weights])
        C, R = (tubal_spanning(names[0], X, self.basis).to(weights[0]) for X in (C, R))
        return {"C": C, "R": R.T.contiguous()}

    def middle(self, layer):
        """M (L k, L k) of one layer: block (a, c) is slice layer - a - c (mod L) of U."""
        k, r, L = self.core.shape
        turn = torch.arange(L, device=self.core.device)
        blocks = self.core[:, :, (layer - turn[:, None] - turn) % L]
        return blocks.permute(2, 0, 3, 1).reshape(L * k, L * r)


FORMS = {"shared_core": SharedCore, "tubal": TubalProduct, "mode_factors": ModeFactors}


class TCURLoRA(CoreDelta):
    """One layer's share of a group's update: ``scale C M_l R``. It refers to the group, which the model alone holds."""

    def __init__(self, *, scale, dropout):
        super().__init__()
        self.scale, self.dropout = scale, dropout
        self.shared, self.layer = (), 0

    def parameters(self, recurse=True):
        """The group's parameters, which are none of the layer's own: PEFT asks here for what is to be trained."""
        return (parameter for group in self.shared for parameter in group.parameters())

    def thin_factors(self):
        """C, scale M_l, R."""
        (group,) = self.shared
        return group.C, self.scale * group.middle(self.layer), group.R


def chosen_lines(name, weights, n_columns, n_rows, rule, rng):
    """Columns and rows of weights by a rule, all that are wanted: pairs of a weight's number and its line."""
    sides = ((n_columns, weights), (n_rows, [W.T for W in weights]))
    return [enough(name, k, choose_weight_columns(own, k, rule, rng)) for k, own in sides]


def host(indices):
    """A tensor of indices as a NumPy array."""
    return indices.cpu().numpy().astype(np.intp)


def columns_at(weights, pairs):
    """The columns named by pairs of a weight's number and a column, side by side."""
    return torch.stack([weights[number].detach()[:, column] for number, column in pairs.tolist()], dim=1)


def spanning(name, columns, basis):
    """Some columns, or an orthonormal basis of them, in float64."""
    X = double(columns)
    return torch.from_numpy(BASES[basis](X, independent_basis(name, X, columns.dtype)))


def tubal_spanning(name, slices, basis):
    """Lateral slices side by side, or a basis of them that is orthonormal under the t-product, in float64."""
    X = np.stack([double(columns) for columns in slices])
    Q = independent_basis(name, np.fft.rfft(X, axis=0), slices[0].dtype)
    found = BASES[basis](X, np.fft.irfft(Q, n=len(X), axis=0))
    return torch.from_numpy(np.concatenate(list(found), axis=1))


BASES = {"orthonormal": lambda columns, basis: basis, "raw": lambda columns, basis: columns}


def independent_basis(name, columns, dtype):
    """Orthonormal basis of independent columns, by the QR whose R has a positive diagonal, which is unique."""
    Q, R = np.linalg.qr(columns)
    diagonal = np.diagonal(R, axis1=-2, axis2=-1)
    noise = NOISE * torch.finfo(dtype).eps * np.linalg.norm(columns, axis=-2)
    if not (np.abs(diagonal) > noise).all():
        what = f"the chosen columns and rows of {name!r}"
        raise _validation.complain(ValueError, what, "independent of each other", "others")
    return Q * (diagonal / np.abs(diagonal))[..., None, :]


def projected_weights(weight, C, R):
    """``C^T W R^T`` as a NumPy array in float64; the large product where the weight lives."""
    operand, W = operands.find(weight)
    half = operand.rmatmat(W, double(C))
    return (double(R) @ half.astype(float)).T
