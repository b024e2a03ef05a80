"""Several modalities brought to one vector: chosen features of each, a shared core, attention over what is there."""

import functools
import warnings
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from curtensor import _validation
from curtensor.adapters.choice import adapter_rule, choose_weight_columns
from curtensor.adapters.tuner import stream


class MultimodalTCURLoRA(nn.Module):
    """Fuse modalities by their own features: those that a CUR of a calibration batch chooses.

    For a modality i with features x_i (..., d_i), J_i are the chosen ones of them, and

    ::

        z_i = x_i[..., J_i] E_i S[:, :, i]                       (..., rank)
        w   = softmax over the modalities present of  z_i K . q / sqrt(rank)
        y   = (sum over i of  w_i z_i V) W^T + b                 (..., out_features)

    E_i (n_features, rank) is frozen: it makes the chosen columns of the calibration batch uncorrelated and of mean
    square 1. The core S (rank, rank, modalities), K, q, V, W and b are trained, from S[:, :, i] the identity.

    Parameters
    ----------
    calibration : mapping of str to tensor or array
        For each modality a batch of its features, shape (..., d_i), at least `n_features` samples.
    out_features : int
        Length of the output vectors.
    n_features : int or mapping of str to int, default 16
        Number of features to choose, `rank` to d_i: of each modality, or one number for all, of which narrower
        modalities take all their features, with a warning.
    rank : int, default 8
        Length to which all modalities are brought.
    names : mapping of str to list of str, optional
        Names of the features of some modalities, for `chosen_features`.
    method : str or callable, default "osinsky"
        As in `CURLoRAConfig`.
    dtype : torch.dtype, optional
        Of all that is held, and of the outputs. By default the widest of the calibration batches.
    rng : None, int, SeedSequence or Generator, optional
        Source of randomness. Each modality has its own stream, by its name; torch's global state is not touched.

    Attributes
    ----------
    modalities : list of str
        Names of the modalities, sorted.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or out of range, or a batch is empty, not finite or of too low a rank.

    References
    ----------
    .. [1] Y. He and others, "tCURLoRA", 2025, arXiv:2501.02227: the shared core.

    Examples
    --------
    >>> import torch
    >>> from curtensor.adapters import MultimodalTCURLoRA
    >>> make = torch.Generator().manual_seed(0)
    >>> batch = {"image": torch.randn(50, 30, generator=make), "text": torch.randn(50, 20, generator=make)}
    >>> model = MultimodalTCURLoRA(batch, 3, n_features=6, rank=4, rng=0)
    >>> model(batch).shape
    torch.Size([50, 3])
    >>> model({"text": batch["text"][:2]}).shape
    torch.Size([2, 3])
    >>> len(model.chosen_features("image"))
    6
    """

    def __init__(
        self, calibration, out_features, *, n_features=16, rank=8, names=None, method="osinsky",
        dtype=None, rng: _validation.RandomSource = None,
    ):  # fmt: skip
        super().__init__()
        if not isinstance(calibration, Mapping):
            raise _validation.complain(TypeError, "calibration", "a mapping", _validation.describe(calibration))
        for name in calibration:
            if not isinstance(name, str):
                raise _validation.complain(TypeError, "each key of calibration", "a str", _validation.describe(name))
        if not calibration:
            raise _validation.complain(ValueError, "calibration", "of at least one modality", "none")
        batches = {name: samples_of(name, calibration[name]) for name in sorted(calibration)}
        out_features = _validation.integer(out_features, "out_features", 1, 10**9)
        rank = _validation.integer(rank, "rank", 1, min(min(X.shape) for X in batches.values()))
        sizes = feature_counts(n_features, batches)
        self.names = {} if names is None else dict(names)
        for name, features in self.names.items():
            X = batches[_validation.one_of(batches, name, "each key of names")]
            self.names[name] = list(_validation.name_list(features, f"names[{name!r}]"))
            if len(self.names[name]) != X.shape[1]:
                what = f"of length {X.shape[1]}"
                raise _validation.complain(ValueError, f"names[{name!r}]", what, len(self.names[name]))
        rule = adapter_rule(method)
        seed = int(_validation.generator(rng).integers(2**63))

        self.modalities = list(batches)
        self.widths = {name: X.shape[1] for name, X in batches.items()}
        device = next(iter(batches.values())).device
        if dtype is None:
            dtype = functools.reduce(torch.promote_types, (X.dtype for X in batches.values()))
        elif not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            raise _validation.complain(TypeError, "dtype", "a floating-point torch.dtype", _validation.describe(dtype))
        made_as = {"device": device, "dtype": dtype}
        for name, X in batches.items():
            k = _validation.integer(sizes[name], f"n_features of {name!r}", rank, min(X.shape))
            chosen = choose_weight_columns([X], k, rule, stream(seed, name))[:, 1]
            of_rank(name, k, len(chosen))
            indices = torch.as_tensor(chosen, dtype=torch.int32, device=device)
            self.register_buffer(f"features_{key(name)}", indices)
            self.register_buffer(f"basis_{key(name)}", whitening(name, X[:, chosen], rank).to(**made_as))
        draw = stream(seed, "fusion")
        self.core = nn.Parameter(torch.eye(rank, **made_as)[:, :, None].repeat(1, 1, len(batches)))
        self.key, self.value = (nn.Parameter(fresh_weights(draw, rank, rank).to(**made_as)) for _ in range(2))
        self.query = nn.Parameter(fresh_weights(draw, 1, rank)[0].to(**made_as))
        self.weight = nn.Parameter(fresh_weights(draw, out_features, rank).to(**made_as))
        self.bias = nn.Parameter(torch.zeros(out_features, **made_as))

    def forward(self, inputs, present=None):
        """The fused vectors, shape (..., out_features): the bias alone where no modality is there.

        Parameters
        ----------
        inputs : mapping of str to tensor, shape (..., d_i)
            Features by modality, of one batch shape. A modality that is left out, or None, is missing throughout.
        present : mapping of str to tensor of bool, shape (...), optional
            Where a modality is there; what stands elsewhere is not looked at, NaN included.
        """
        given = {name: x for name, x in inputs.items() if x is not None}
        present = {} if present is None else present
        shape = self.batch_shape(given, present)
        tokens, there = [], []
        for i, name in enumerate(self.modalities):
            if name not in given:
                continue
            x = given[name][..., self.part("features", name).long()].to(self.core.dtype)
            here = torch.ones(shape, dtype=torch.bool, device=x.device) if name not in present else present[name]
            tokens.append(x.masked_fill(~here[..., None], 0) @ self.part("basis", name) @ self.core[:, :, i])
            there.append(here)
        Z, mask = torch.stack(tokens, dim=-2), torch.stack(there, dim=-1)
        return F.linear(self.attend(Z, mask), self.weight, self.bias)

    def attend(self, Z, mask):
        """Mean of the values of tokens (..., modalities, rank), by attention to those present; zero if none is."""
        scores = Z @ self.key @ self.query / len(self.query) ** 0.5
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        weights = torch.softmax(scores, dim=-1) * mask
        return (weights[..., None, :] @ (Z @ self.value))[..., 0, :]

    def batch_shape(self, given, present):
        """The shape (...) that all inputs share, checked."""
        for name in (*given, *present):
            _validation.one_of(self.modalities, name, "each modality")
        if not given:
            raise _validation.complain(ValueError, "inputs", "of at least one modality", "none")
        shape = next(iter(given.values())).shape[:-1]
        for name, x in given.items():
            if x.shape != (*shape, self.widths[name]):
                what = f"of shape {(*shape, self.widths[name])}"
                raise _validation.complain(ValueError, f"the input {name!r}", what, tuple(x.shape))
            if name in present and (present[name].shape != shape or present[name].dtype != torch.bool):
                got = f"{present[name].dtype} of shape {tuple(present[name].shape)}"
                raise _validation.complain(ValueError, f"present[{name!r}]", f"bool of shape {tuple(shape)}", got)
        return shape

    def chosen_features(self, modality):
        """The chosen features of a modality: a list of their names, if it has names, else of their indices."""
        name = _validation.one_of(self.modalities, modality, "modality")
        indices = self.part("features", name).tolist()
        return [self.names[name][j] for j in indices] if name in self.names else indices

    def part(self, what, modality):
        """A modality's indices or basis."""
        return getattr(self, f"{what}_{key(modality)}")


def key(modality):
    """A modality's name as torch takes it for a buffer, which must not hold a dot."""
    return modality.replace("%", "%25").replace(".", "%2E")


def feature_counts(n_features, batches):
    """The number of features of each modality: as given for it, or as many as it has of a number given for all."""
    if isinstance(n_features, Mapping):
        if set(n_features) != set(batches):
            what = f"given for each of {', '.join(map(repr, batches))} alone"
            raise _validation.complain(ValueError, "n_features", what, list(n_features))
        return n_features
    n_features = _validation.integer(n_features, "n_features", 1, 10**9)
    narrow = {name: X.shape[1] for name, X in batches.items() if X.shape[1] < n_features}
    if narrow:
        widths = ", ".join(f"{name!r} {width}" for name, width in narrow.items())
        warnings.warn(f"n_features is {n_features}, and fewer where there are no more: {widths}", stacklevel=3)
    return dict.fromkeys(batches, n_features) | narrow


def samples_of(name, X):
    """A calibration batch as a finite matrix, one row a sample."""
    what = f"calibration[{name!r}]"
    X = X if isinstance(X, torch.Tensor) else torch.as_tensor(np.asarray(X))
    if not X.is_floating_point():
        raise _validation.complain(TypeError, what, "of floating-point numbers", X.dtype)
    if X.ndim < 2 or X.numel() == 0:
        raise _validation.complain(ValueError, what, "of shape (..., features), not empty", tuple(X.shape))
    if not torch.isfinite(X).all():
        raise _validation.complain(ValueError, what, "finite", "NaN or infinity")
    return X.detach().reshape(-1, X.shape[-1])


def of_rank(modality, needed, found):
    """Raise if the numerical rank of a calibration batch is too low."""
    if found < needed:
        what = f"of numerical rank at least {needed}"
        raise _validation.complain(ValueError, f"calibration[{modality!r}]", what, found)


def whitening(name, C, rank):
    """E (k, rank), for which ``C E`` has orthogonal columns of mean square 1, in float64."""
    _, s, Vh = np.linalg.svd(C.double().cpu().numpy(), full_matrices=False)
    numerical = int((s > s[0] * max(C.shape) * np.finfo(float).eps).sum())
    of_rank(name, rank, numerical)
    return torch.from_numpy(np.ascontiguousarray(Vh[:rank].T / s[:rank] * np.sqrt(len(C))))


def fresh_weights(rng, rows, columns):
    """Uniform numbers of mean square 1 / (3 columns), as nn.Linear draws them."""
    return torch.from_numpy(rng.uniform(-1, 1, (rows, columns)) / np.sqrt(columns))
