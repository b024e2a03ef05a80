"""Updates of frozen weights: LoRA, CURLoRA, tCURLoRA and AdaLoRA.

W is a weight (m, n), out by in, which acts on x in rows: ``x @ W.T``. A delta is a module that holds an update of W as
thin factors, and the numbers in it that are trained. What is not trained is a buffer. Constructors read weights and
never change them; trained numbers are float32 where a weight is in half precision.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from curtensor import operands


class Delta(nn.Module):
    """An update of a weight (m, n).

    A subclass has `forward` and `lora_factors`, a `kind`, the `options` that a checkpoint keeps, and the names of the
    state that is made anew from the base weight when a checkpoint is loaded (`rebuilt`).
    """

    kind: str
    options: dict
    rebuilt: tuple[str, ...] = ()

    def forward(self, x):
        """``x @ matrix().T`` by thin products."""
        raise NotImplementedError

    def lora_factors(self):
        """B (m, r) and A (r, n) with ``matrix() == B @ A``."""
        raise NotImplementedError

    def matrix(self):
        """The update (m, n)."""
        B, A = self.lora_factors()
        return B @ A.to(B.dtype)


class LoRA(Delta):
    """``alpha / r B A`` with A (r, n) and B (m, r) trained: r (m + n) numbers (Hu and others 2021).

    With a `start`, A and B as they were, the update is what ``alpha / r B A`` has changed by, as with a frozen
    ``W - alpha / r B A`` as the base.
    """

    kind = "lora"

    def __init__(self, A, B, *, alpha, start=False):
        super().__init__()
        self.options = {"alpha": alpha, "start": start}
        self.scale = alpha / len(A)
        self.A, self.B = own_parameter(A), own_parameter(B)
        self.register_buffer("A0", self.A.detach().clone() if start else None)
        self.register_buffer("B0", self.B.detach().clone() if start else None)

    @classmethod
    def rebuild(cls, weights, tensors, options):
        """The delta of a checkpoint, as a list of one."""
        start = options["start"]
        A, B = (tensors["A0"], tensors["B0"]) if start else (tensors["A"], tensors["B"])
        return [cls(A, B, **options)]

    def forward(self, x):
        """``x @ matrix().T`` by thin products."""
        x = x.to(self.A.dtype)
        y = F.linear(self.scale * F.linear(x, self.A), self.B)
        return y if self.A0 is None else y - F.linear(self.scale * F.linear(x, self.A0), self.B0)

    def lora_factors(self):
        """B (m, r) and A (r, n); of rank 2 r with a start."""
        if self.A0 is None:
            return self.scale * self.B, self.A
        return self.scale * torch.cat([self.B, -self.B0], dim=1), torch.cat([self.A, self.A0])

    def matrix(self):
        """The update (m, n), exactly zero at the start."""
        update = self.scale * self.B @ self.A
        return update if self.A0 is None else update - self.scale * self.B0 @ self.A0


class AdaLoRA(Delta):
    """``alpha / r P diag(e) Q``, all trained, e = 0 at first: r (m + n + 1) numbers (Zhang and others 2023).

    P and Q start as orthonormal bases of chosen columns and rows.
    """

    kind = "adalora"

    def __init__(self, P, Q, *, alpha):
        super().__init__()
        self.options = {"alpha": alpha}
        self.scale = alpha / len(Q)
        self.P, self.Q = own_parameter(P), own_parameter(Q)
        self.e = nn.Parameter(P.new_zeros(len(Q)))

    @classmethod
    def rebuild(cls, weights, tensors, options):
        """The delta of a checkpoint, as a list of one."""
        return [cls(tensors["P"], tensors["Q"], **options)]

    def forward(self, x):
        """``x @ matrix().T`` by thin products."""
        return F.linear(self.scale * self.e * F.linear(x.to(self.Q.dtype), self.Q), self.P)

    def lora_factors(self):
        """P diag(e) and Q."""
        return self.P * (self.scale * self.e), self.Q


class CoreDelta(Delta):
    """``scale C M R`` with frozen C (m, r_1), R (r_2, n) and a small M that is trained."""

    def thin_factors(self):
        """C, scale M, R."""
        raise NotImplementedError

    def forward(self, x):
        """``x @ matrix().T`` by thin products."""
        C, M, R = self.thin_factors()
        return F.linear(F.linear(F.linear(x, R).to(M.dtype), M).to(C.dtype), C)

    def lora_factors(self):
        """``scale C M`` and R."""
        C, M, R = self.thin_factors()
        return C.to(M.dtype) @ M, R


class CURLoRA(CoreDelta):
    """``scale C U R`` out of chosen columns and rows of the weight; U, zero at first, is trained: k^2 numbers.

    Parameters
    ----------
    weight : tensor, shape (m, n)
    columns, rows : sequences of int, lengths r_1 and r_2
    basis : "orthonormal" or "raw"
        Orthonormal bases of the chosen columns and rows, or themselves (Fawi 2024).
    scale : float
    """

    kind = "curlora"
    rebuilt = ("C", "R")

    def __init__(self, weight, columns, rows, *, basis="orthonormal", scale=1.0):
        super().__init__()
        self.options = {"basis": basis, "scale": scale}
        self.scale = scale
        self.register_buffer("columns", index_buffer(columns, weight))
        self.register_buffer("rows", index_buffer(rows, weight))
        self.register_buffer("C", BASES[basis](columns_at([weight], alone(columns))))
        self.register_buffer("R", BASES[basis](columns_at([weight.T], alone(rows))).T.contiguous())
        self.U = nn.Parameter(weight.new_zeros(len(columns), len(rows), dtype=trained_dtype(weight)))

    @classmethod
    def rebuild(cls, weights, tensors, options):
        """The delta of a checkpoint, as a list of one."""
        return [cls(weights[0], tensors["columns"].numpy(), tensors["rows"].numpy(), **options)]

    def thin_factors(self):
        """C, scale U, R."""
        return self.C, self.scale * self.U, self.R


class ModeBases(nn.Module):
    """Frozen factors of the three modes of L weights side by side: C (m, r_1), R^T (n, r_2) and layers (L, r_3).

    Parameters
    ----------
    weights : L tensors, shape (m, n)
    columns, rows : arrays of int, shapes (r_1, 2) and (r_2, 2)
        Pairs of a weight's number and its column or row.
    fibres : array of int, shape (r_3, 2)
        Rows and columns whose entries in all weights span the third mode; empty for the identity, r_3 = L.
    basis : "orthonormal" or "raw"
    rng : Generator, optional
        What some groups start with at random.
    """

    rebuilt: tuple[str, ...] = ("C", "R", "layers")
    whole_slices = False  # whether it is made of the stacked weights' own slices, as many of both kinds
    factored = False  # whether it takes a `factor_rank`

    def __init__(self, weights, columns, rows, fibres, *, basis, rng=None):
        super().__init__()
        self.register_buffer("columns", index_buffer(columns, weights[0]))
        self.register_buffer("rows", index_buffer(rows, weights[0]))
        self.register_buffer("fibres", index_buffer(fibres, weights[0]))
        self.register_buffer("C", BASES[basis](columns_at(weights, columns)))
        self.register_buffer("R", BASES[basis](columns_at([W.T for W in weights], rows)).T.contiguous())
        self.register_buffer("layers", third_mode(weights, fibres, basis))

    @classmethod
    def rebuild(cls, weights, tensors, options):
        """The group of a checkpoint."""
        columns, rows, fibres = (tensors[name].numpy() for name in ("columns", "rows", "fibres"))
        return cls(weights, columns, rows, fibres, **options)


class SharedCore(ModeBases):
    """``S x_1 C x_2 R^T x_3 layers``, S (r_1, r_2, r_3) trained, zero at first: r_1 r_2 r_3 numbers for L weights."""

    form = "shared_core"

    def __init__(self, weights, columns, rows, fibres, *, basis, rng=None):
        super().__init__(weights, columns, rows, fibres, basis=basis)
        self.core = nn.Parameter(self.layers.new_zeros(len(columns), len(rows), self.layers.shape[1]))

    def middle(self, layer):
        """M (r_1, r_2) of one layer: the core times its row of the third mode's factor."""
        return self.core @ self.layers[layer]


class ModeFactors(ModeBases):
    """The weights' own Tucker core S_0, with ``I + B_n A_n`` trained in each mode, less S_0 itself.

    B_n (r_n, p) is zero at first, A_n (p, r_n) random, p = min(factor_rank, r_n): 2 p r_n numbers for mode n.
    """

    form = "mode_factors"
    factored = True
    rebuilt = (*ModeBases.rebuilt, "core")

    def __init__(self, weights, columns, rows, fibres, *, basis, factor_rank, rng=None):
        super().__init__(weights, columns, rows, fibres, basis=basis)
        small = np.stack([projected_weights(W, self.C, self.R) for W in weights], axis=2)
        self.register_buffer("core", torch.from_numpy(small).to(self.layers) @ self.layers)
        rng = np.random.default_rng(rng)
        ranks = [(min(factor_rank, r), r) for r in self.core.shape]
        A = [torch.from_numpy(rng.standard_normal((p, r)) / np.sqrt(r)).to(self.core) for p, r in ranks]
        self.A = nn.ParameterList(A)
        self.B = nn.ParameterList([self.core.new_zeros(r, p) for p, r in ranks])

    def middle(self, layer):
        """M (r_1, r_2) of one layer."""
        row = self.layers[layer]
        turned = self.core @ (row + (row @ self.B[2]) @ self.A[2])
        turned = turned + self.B[0] @ (self.A[0] @ turned)
        return turned + (turned @ self.A[1].T) @ self.B[1].T - self.core @ row


class TubalProduct(nn.Module):
    """``C * U * R`` by the t-product, U (k, k, L) trained, zero at first: L k^2 numbers (He and others 2025).

    C (m, k, L) and R (k, n, L) are the chosen lateral and horizontal slices of the stacked weights, held side by side.

    Parameters
    ----------
    weights : L tensors, shape (m, n)
    columns, rows : arrays of int, shape (k,)
    basis : "orthonormal" or "raw"
        Orthonormal under the t-product, or the slices themselves.
    """

    form = "tubal"
    rebuilt = ("C", "R")
    whole_slices, factored = True, False

    def __init__(self, weights, columns, rows, *, basis, rng=None):
        super().__init__()
        self.register_buffer("columns", index_buffer(columns, weights[0]))
        self.register_buffer("rows", index_buffer(rows, weights[0]))
        self.register_buffer("C", TUBAL_BASES[basis]([columns_at([W], alone(columns)) for W in weights]))
        self.register_buffer("R", TUBAL_BASES[basis]([columns_at([W.T], alone(rows)) for W in weights]).T.contiguous())
        kind = trained_dtype(weights[0])
        self.core = nn.Parameter(weights[0].new_zeros(len(columns), len(rows), len(weights), dtype=kind))

    @classmethod
    def rebuild(cls, weights, tensors, options):
        """The group of a checkpoint."""
        return cls(weights, tensors["columns"].numpy(), tensors["rows"].numpy(), **options)

    def middle(self, layer):
        """M (L k, L k) of one layer: block (a, c) is slice layer - a - c (mod L) of U."""
        k, r, L = self.core.shape
        turn = torch.arange(L, device=self.core.device)
        blocks = self.core[:, :, (layer - turn[:, None] - turn) % L]
        return blocks.permute(2, 0, 3, 1).reshape(L * k, L * r)


FORMS = {group.form: group for group in (SharedCore, TubalProduct, ModeFactors)}


class TCURLoRA(CoreDelta):
    """One layer's share of a group's update: ``scale C M_l R``.

    The group is a submodule of its first layer alone, since a state_dict must not hold shared memory twice; the
    others refer to the same module, which deepcopy, pickle and ``.to`` keep.
    """

    kind = "tcurlora"

    def __init__(self, group, layer, *, scale, options):
        super().__init__()
        self.options = options
        self.scale, self.layer = scale, layer
        self.shared = (group,)
        if layer == 0:
            self.group = group
            self.rebuilt = tuple(f"group.{name}" for name in group.rebuilt)

    @classmethod
    def of_group(cls, group, size, *, scale, **options):
        """The deltas of all layers of a group; `options` are those of the group."""
        options = {"form": group.form, "scale": scale} | options
        return [cls(group, layer, scale=scale, options=options) for layer in range(size)]

    @classmethod
    def rebuild(cls, weights, tensors, options):
        """The deltas of a checkpoint's group."""
        form, scale = options["form"], options["scale"]
        options = {name: value for name, value in options.items() if name not in ("form", "scale")}
        tensors = {name.removeprefix("group."): tensor for name, tensor in tensors.items()}
        return cls.of_group(FORMS[form].rebuild(weights, tensors, options), len(weights), scale=scale, **options)

    def thin_factors(self):
        """C, scale M_l, R."""
        group = self.shared[0]
        return group.C, self.scale * group.middle(self.layer), group.R


DELTAS = {delta.kind: delta for delta in (LoRA, CURLoRA, TCURLoRA, AdaLoRA)}


def trained_dtype(weight):
    """float32 for a weight in half precision, else the weight's own dtype."""
    return torch.promote_types(weight.dtype, torch.float32)


def own_parameter(X):
    """A contiguous copy as a parameter."""
    return nn.Parameter(X.detach().clone(memory_format=torch.contiguous_format))


def index_buffer(indices, weight):
    """Indices as a tensor beside the weight."""
    return torch.as_tensor(indices, dtype=torch.int32, device=weight.device)


def alone(indices):
    """Columns of a single weight as pairs (0, column)."""
    return np.stack([np.zeros(len(indices), dtype=int), indices], axis=1)


def columns_at(weights, pairs):
    """The columns named by pairs of a weight's number and a column, side by side."""
    return torch.stack([weights[number].detach()[:, column] for number, column in np.asarray(pairs).tolist()], dim=1)


def orthonormal(columns):
    """Orthonormal basis of some columns, made in float64 and given in their dtype."""
    Q = np.linalg.qr(columns.double().cpu().numpy())[0]
    return torch.from_numpy(Q).to(columns).contiguous()


def raw(columns):
    """The columns themselves."""
    return columns.contiguous()


def tubal_orthonormal(slices):
    """Lateral slices made orthonormal under the t-product, side by side: QR in each frequency, in float64."""
    tensor = np.stack([columns.double().cpu().numpy() for columns in slices])
    Q = np.fft.irfft(np.linalg.qr(np.fft.rfft(tensor, axis=0))[0], n=len(slices), axis=0)
    return torch.from_numpy(np.concatenate(list(Q), axis=1)).to(slices[0])


def tubal_raw(slices):
    """Lateral slices side by side."""
    return torch.cat(slices, dim=1)


BASES = {"orthonormal": orthonormal, "raw": raw}
TUBAL_BASES = {"orthonormal": tubal_orthonormal, "raw": tubal_raw}


def third_mode(weights, fibres, basis):
    """The factor (L, r_3) of the third mode from fibres at pairs of a row and a column; none: the identity."""
    kind = trained_dtype(weights[0])
    if len(fibres) == 0:
        return torch.eye(len(weights), dtype=kind, device=weights[0].device)
    rows, columns = np.asarray(fibres).T.tolist()
    return BASES[basis](torch.stack([W.detach()[rows, columns] for W in weights]).to(kind))


def projected_weights(weight, C, R):
    """``C^T W R^T`` as a NumPy array in float64; the large product where the weight lives."""
    operand, W = operands.find(weight)
    half = operand.rmatmat(W, C.double().cpu().numpy())
    return (R.double().cpu().numpy() @ half.astype(float)).T
