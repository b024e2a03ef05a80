"""Adapters put into a model: all layers matched and decomposed first, and only then the model changed."""

import hashlib
import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from curtensor import _validation
from curtensor.adapters.linear import put_beside, weight_matrix
from curtensor.adapters.matching import find_targets
from curtensor.adapters.plans import plan_adalora, plan_curlora, plan_lora, plan_tcurlora


def convert_to_lora(
    model, target_modules, *, rank=8, alpha=None, init="kaiming", method="osinsky", exclude_modules=(),
    layers_to_transform=None, modules_to_save=(), progress=True, rng=None,
):  # fmt: skip
    """Add ``alpha / rank B A`` to the weights of chosen linear layers, and freeze all else.

    Parameters
    ----------
    model : torch.nn.Module
        Changed in place, all of it or, where anything is wrong, nothing.
    target_modules : list of str, str or mapping
        Which layers. A list holds names, or what comes after a dot of a name; a str is a regular expression that
        matches whole names, or "all-linear" for all but the output layer of a language model. A mapping has a name or
        regular expression for the end of a name as key, and as value the options (`rank`, `alpha`, `init`, `method`)
        that differ there; the first match counts. The packed projection of ``nn.MultiheadAttention`` goes by the name
        "in_proj_weight".
    rank : int, default 8
        Rank of the update, 1 to min(m, n).
    alpha : float, optional
        The update is scaled by ``alpha / rank``; 2 rank by default.
    init : "kaiming", "cur" or "cur_residual", default "kaiming"
        How A starts: random; as an orthonormal basis of chosen rows, as large as the random one; or with B as the CUR
        of the weight, of which the update is the change. B is zero but for the last.
    method : str or callable, default "osinsky"
        Rule for columns and rows: one of `curtensor.selection.SELECTION_RULES`, or "inverse_norm", or a function.
    exclude_modules : list of str, str or mapping, optional
        Layers to leave out of those found, named in the same ways.
    layers_to_transform : int or list of int, optional
        Only layers whose first number in their path is one of these.
    modules_to_save : list of str, optional
        Modules which are trained whole, and kept in checkpoints: a classifier on top, say.
    progress : bool, default True
        Show a progress bar.
    rng : None, int, SeedSequence or Generator, optional
        Source of randomness. Each layer has its own stream, by its name, so that what is chosen for one does not
        depend on the others. torch's and NumPy's global states are not touched.

    Returns
    -------
    model : torch.nn.Module
        The same object. Its outputs are what they were.

    Raises
    ------
    TypeError
        If a target is no linear layer, its weight is quantised or of integers, or an argument is of the wrong kind.
    ValueError
        If a name matches nothing, the model has adapters already, a weight is on the meta device, not finite or of
        too low a rank, or a number is out of range.

    Notes
    -----
    rank (m + n) trained numbers a layer. "cur" reads each weight once for the sketch; "cur_residual" three times, and
    it holds two copies of A and B. Frozen factors and the base keep the base's dtype; trained numbers are float32 for
    half-precision weights.

    References
    ----------
    .. [1] E. J. Hu and others, "LoRA: Low-rank adaptation of large language models", 2021, arXiv:2106.09685.
    .. [2] F. Meng, Z. Wang, M. Zhang, "PiSSA: Principal singular values and singular vectors adaptation of large
       language models", 2024, arXiv:2404.02948.

    Examples
    --------
    >>> import torch
    >>> from curtensor.adapters import convert_to_lora, count_parameters
    >>> model = torch.nn.Sequential(torch.nn.Linear(20, 30), torch.nn.ReLU(), torch.nn.Linear(30, 2))
    >>> model = convert_to_lora(model, ["0"], rank=4, progress=False, rng=0)
    >>> count_parameters(model)
    (200, 892)
    """
    options = {"rank": rank, "alpha": alpha, "init": init, "method": method}
    targets = find_targets(model, target_modules, options, exclude_modules, layers_to_transform, modules_to_save)
    units = [Unit([name], plan_lora, targets.options[name]) for name in targets.layers]
    return convert(model, targets, units, progress, rng)


def convert_to_curlora(
    model, target_modules, *, rank=16, scale=1.0, basis="orthonormal", method="osinsky", exclude_modules=(),
    layers_to_transform=None, modules_to_save=(), progress=True, rng=None,
):  # fmt: skip
    """Add ``scale C U R`` to chosen weights, out of their own columns and rows, and train U alone.

    Parameters
    ----------
    model, target_modules
        As for `convert_to_lora`; the options of a mapping are `rank`, `scale`, `basis` and `method`.
    rank : int, default 16
        Number k of columns and of rows, 1 to min(m, n).
    scale : float, default 1.0
        Factor of the update, above 0.
    basis : "orthonormal" or "raw", default "orthonormal"
        Orthonormal bases of the chosen columns and rows, or themselves, as published [1]_; the learning rate that
        suits the raw ones depends on the size of the weights.
    method : str or callable, default "osinsky"
        As for `convert_to_lora`; "inverse_norm" is the published rule.
    exclude_modules, layers_to_transform, modules_to_save, progress, rng
        As for `convert_to_lora`.

    Returns
    -------
    model : torch.nn.Module
        The same object. Its outputs are what they were, to the bit, since U is zero at first.

    Raises
    ------
    TypeError, ValueError
        As `convert_to_lora`.

    Notes
    -----
    k^2 trained numbers a layer, k (m + n) frozen ones. Two passes over each weight, O(m n k) operations. The update is
    applied as three thin products and never formed. Its gradient at zero is scale C^T G R^T for a weight's gradient G.

    References
    ----------
    .. [1] M. Fawi, "CURLoRA: Stable LLM continual fine-tuning and catastrophic forgetting mitigation", 2024,
       arXiv:2408.14572.

    Examples
    --------
    >>> import torch
    >>> from curtensor.adapters import convert_to_curlora, count_parameters
    >>> model = torch.nn.Sequential(torch.nn.Linear(20, 30), torch.nn.ReLU(), torch.nn.Linear(30, 2))
    >>> model = convert_to_curlora(model, ["0"], rank=8, progress=False, rng=0)
    >>> count_parameters(model)[0]
    64
    """
    options = {"rank": rank, "scale": scale, "basis": basis, "method": method}
    targets = find_targets(model, target_modules, options, exclude_modules, layers_to_transform, modules_to_save)
    units = [Unit([name], plan_curlora, targets.options[name]) for name in targets.layers]
    return convert(model, targets, units, progress, rng)


def convert_to_adalora(
    model, target_modules, *, rank=12, alpha=None, method="osinsky", exclude_modules=(), layers_to_transform=None,
    modules_to_save=(), progress=True, rng=None,
):  # fmt: skip
    """Add ``alpha / rank P diag(e) Q`` to chosen weights; `RankAllocator` takes the ranks down where they matter least.

    Parameters
    ----------
    model, target_modules
        As for `convert_to_lora`; the options of a mapping are `rank`, `alpha` and `method`.
    rank : int, default 12
        Rank at first, 1 to min(m, n): 1.5 times the one wanted in the end, say.
    alpha : float, optional
        The update is scaled by ``alpha / rank``; 2 rank by default.
    method, exclude_modules, layers_to_transform, modules_to_save, progress, rng
        As for `convert_to_lora`.

    Returns
    -------
    model : torch.nn.Module
        The same object. Its outputs are what they were, to the bit, since e is zero at first.

    Raises
    ------
    TypeError, ValueError
        As `convert_to_lora`.

    Notes
    -----
    rank (m + n + 1) trained numbers a layer. P and Q start as orthonormal bases of chosen columns and rows, so that
    the orthogonality penalty is zero at the start.

    References
    ----------
    .. [1] Q. Zhang and others, "AdaLoRA: Adaptive budget allocation for parameter-efficient fine-tuning", 2023,
       arXiv:2303.10512.

    Examples
    --------
    >>> import torch
    >>> from curtensor.adapters import convert_to_adalora, count_parameters
    >>> model = torch.nn.Sequential(torch.nn.Linear(20, 30), torch.nn.ReLU(), torch.nn.Linear(30, 2))
    >>> count_parameters(convert_to_adalora(model, ["0"], rank=4, progress=False, rng=0))[0]
    204
    """
    options = {"rank": rank, "alpha": alpha, "method": method}
    targets = find_targets(model, target_modules, options, exclude_modules, layers_to_transform, modules_to_save)
    units = [Unit([name], plan_adalora, targets.options[name]) for name in targets.layers]
    return convert(model, targets, units, progress, rng)


def convert_to_tcurlora(
    model, target_modules, *, ranks=16, scale=1.0, form="shared_core", factor_rank=4, basis="orthonormal",
    method="osinsky", group_by=None, exclude_modules=(), layers_to_transform=None, modules_to_save=(), progress=True,
    rng=None,
):  # fmt: skip
    """Add to groups of weights of one shape an update in tensor form, whose core the group shares.

    The L weights (m, n) of a group are stacked to a tensor (m, n, L). The update is S x_1 C x_2 R^T x_3 E, where C are
    columns of any of the weights, R rows, E (L, r_3) fibres across the layers, and S is trained.

    Parameters
    ----------
    model, target_modules
        As for `convert_to_lora`; the options of a mapping are `ranks`, `scale`, `form`, `factor_rank`, `basis` and
        `method`.
    ranks : int or three ints, default 16
        (r_1, r_2, r_3), at most (m, n, L); an int k stands for (k, k, L).
    scale : float, default 1.0
        Factor of the update, above 0.
    form : "shared_core", "tubal" or "mode_factors", default "shared_core"
        As above; by the t-product C * U * R, where `ranks` is an int k; or with the weights' own core and
        ``I + B_n A_n`` in each mode, B_n A_n trained.
    factor_rank : int, default 4
        Rank of B_n A_n; for "mode_factors" only.
    basis, method
        As for `convert_to_curlora`.
    group_by : callable, optional
        Takes a layer's name and gives the key of its group. By default the name without its numbers: all query
        projections of a transformer are one group, all value projections another.
    exclude_modules, layers_to_transform, modules_to_save, progress, rng
        As for `convert_to_lora`.

    Returns
    -------
    model : torch.nn.Module
        The same object. Its outputs are what they were, to the bit.

    Raises
    ------
    TypeError, ValueError
        As `convert_to_lora`; also if the weights of a group differ in shape, dtype or device.

    Notes
    -----
    r_1 r_2 r_3 trained numbers a group (tubal: L k^2; mode factors: 2 p (r_1 + r_2 + r_3) with p = factor_rank, at most
    2 r_n^2 for mode n). With a single layer, "shared_core" and "tubal" are CURLoRA. The core is a parameter of the
    group's first layer alone; the others refer to it.

    References
    ----------
    .. [1] Y. He, H. Cheng, Q. Zhu, Z. Cai, Y. Yu, "tCURLoRA: Tensor CUR decomposition based low-rank parameter
       adaptation and its application in medical image segmentation", 2025, arXiv:2501.02227.

    Examples
    --------
    >>> import torch
    >>> from curtensor.adapters import convert_to_tcurlora, count_parameters
    >>> model = torch.nn.Sequential(*(torch.nn.Linear(20, 20) for _ in range(3)))
    >>> count_parameters(convert_to_tcurlora(model, "all-linear", ranks=(4, 5, 2), progress=False, rng=0))[0]
    40
    """
    options = {
        "ranks": ranks, "scale": scale, "form": form, "factor_rank": factor_rank, "basis": basis, "method": method,
    }  # fmt: skip
    targets = find_targets(model, target_modules, options, exclude_modules, layers_to_transform, modules_to_save)
    group_by = without_numbers if group_by is None else function(group_by, "group_by")
    groups: dict = {}
    for name in targets.layers:
        groups.setdefault((group_by(name), id(targets.options[name])), []).append(name)
    units = [Unit(names, plan_tcurlora, targets.options[names[0]]) for names in groups.values()]
    return convert(model, targets, units, progress, rng)


def without_numbers(name):
    """A module's name with its numbers replaced by stars."""
    return re.sub(r"(?<![^.])\d+(?![^.])", "*", name)


class Unit(NamedTuple):
    """Layers that are decomposed together, what plans their deltas, and its options."""

    names: list
    plan: Callable
    options: dict


def convert(model, targets, units, progress, rng):
    """Plan all units, decompose all, and only then change the model."""
    progress = _validation.flag(progress, "progress")
    seed = int(_validation.generator(rng).integers(2**63))
    plans = []
    for unit in units:
        weights = [weight_matrix(targets.layers[name]).detach() for name in unit.names]
        plans.append(unit.plan(unit.names, weights, **unit.options))
    deltas = {}
    for unit, build in zip(units, tqdm(plans, desc="decompose", disable=not progress), strict=True):
        deltas |= zip(unit.names, build(stream(seed, unit.names[0])), strict=True)
    return install(model, targets.layers, deltas, targets.saved)


def install(model, layers, deltas, saved):
    """Put the deltas beside their layers, and freeze what is neither adapter nor trained whole."""
    model.requires_grad_(False)
    put_beside(model, layers, deltas)
    for module in saved:
        module.requires_grad_(True)
        module.trained_with_adapter = True
    return model


def stream(seed, name):
    """A layer's own random stream, by its name."""
    words = np.frombuffer(hashlib.sha256(name.encode()).digest(), dtype=np.uint32)
    return np.random.default_rng([seed, *words.tolist()])


def function(value, name):
    """A callable."""
    if not callable(value):
        raise _validation.complain(TypeError, name, "callable", _validation.describe(value))
    return value
