"""PEFT under the tutorial's names: one call puts adapters into a model, all of them or none, and one takes them out."""

import contextlib
import difflib
import re
import warnings

import torch
from accelerate.utils.other import extract_model_from_parallel
from peft import AdaLoraConfig, LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers.pytorch_utils import Conv1D

from curtensor import _validation
from curtensor.adapters.curlora import CURLoRAConfig
from curtensor.adapters.initialise import INITS, back_to_start, has_residual_start, initialize_lora_cur_weights, tied
from curtensor.adapters.tcurlora import TCURLoRAConfig
from curtensor.adapters.transformer import call_layers, join_names, open_attentions, take_out

KEPT = "kept_"  # what is before a parameter's name where `merge` has kept it
UNLIMITED = 2**40  # training steps: more than anybody takes


def convert_to_lora(
    model, target_modules, *, rank=8, alpha=None, init="kaiming", method="osinsky", progress=True,
    rng: _validation.RandomSource = None, **options,
):  # fmt: skip
    """Put PEFT's LoRA into a model, started from rows and columns of its weights if asked for.

    Parameters
    ----------
    model : torch.nn.Module
        Without adapters. Its layers are replaced in place: all of the targets or, where anything is wrong, none.
    target_modules : list of str, or str
        Which layers, as in ``peft.LoraConfig``: names or their ends after a dot; a str is a regular expression for
        whole names, or "all-linear". The packed projection of ``nn.MultiheadAttention`` goes by "in_proj_weight".
    rank : int, default 8
        Rank r of the update, at least 1. Other ranks for some layers: ``rank_pattern``.
    alpha : float, optional
        The update is scaled by ``alpha / rank``; 2 rank by default.
    init : "kaiming", "cur" or "cur_residual", default "kaiming"
        PEFT's random start, or one of those of `initialize_lora_cur_weights`. For "cur..." with "all-linear", layers
        with a side below the rank get a rank as large as that side.
    method : str or callable, default "osinsky"
        Rule for columns and rows, as for `initialize_lora_cur_weights`.
    progress : bool, default True
        Show a progress bar.
    rng : None, int, SeedSequence or Generator, optional
        Source of randomness; torch's and NumPy's global states are not touched.
    **options
        More fields of ``peft.LoraConfig``: `modules_to_save`, `layers_to_transform`, `exclude_modules`,
        `rank_pattern`, `use_dora`, `use_rslora`, `lora_dropout`, `target_parameters`, `task_type`...

    Returns
    -------
    peft_model : peft.PeftModel
        The model as PEFT wraps it, with all of PEFT's methods. Its outputs are what they were.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, PEFT's configuration has no such option, a weight is quantised where
        rows must be read.
    ValueError
        If a name matches nothing (the closest ones are named), the model has adapters already, a layer cannot have
        one, or as in `initialize_lora_cur_weights`.

    Warns
    -----
    UserWarning
        If "all-linear" leaves out fused experts, which are parameters: name them in `target_parameters`.

    Notes
    -----
    rank (m + n) trained numbers a layer.

    References
    ----------
    .. [1] E. J. Hu and others, "LoRA: Low-rank adaptation of large language models", 2021, arXiv:2106.09685.

    Examples
    --------
    >>> import torch
    >>> from curtensor.adapters import convert_to_lora, count_parameters
    >>> model = torch.nn.Sequential(torch.nn.Linear(20, 30), torch.nn.ReLU(), torch.nn.Linear(30, 2))
    >>> count_parameters(convert_to_lora(model, ["0"], rank=4, rng=0))
    (200, 892)
    """
    rank = _validation.integer(rank, "rank", 1, 10**6)
    alpha = 2 * rank if alpha is None else _validation.positive(alpha, "alpha")
    init = _validation.one_of(("kaiming", *INITS), init, "init")
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=target_modules, **options)
    stream = _validation.generator(rng)
    with all_or_nothing(model):
        if init != "kaiming" and target_modules == "all-linear":
            narrow = narrow_layers(model, rank)
            config.rank_pattern = narrow | (config.rank_pattern or {})
            scales = {name: alpha * r / rank for name, r in narrow.items()}
            config.alpha_pattern = scales | (config.alpha_pattern or {})
        peft_model = with_adapters(model, config, int(stream.integers(2**63)))
        if init == "kaiming":
            return peft_model
        return initialize_lora_cur_weights(peft_model, init=init, method=method, progress=progress, rng=stream)


def convert_to_adalora(
    model, target_modules, *, rank=12, target_rank=None, total_steps=None, alpha=None, method="osinsky",
    progress=True, rng: _validation.RandomSource = None, **options,
):  # fmt: skip
    """Put PEFT's AdaLoRA into a model, P and Q started from columns and rows of its weights.

    Parameters
    ----------
    model, target_modules
        As for `convert_to_lora`.
    rank : int, default 12
        Rank at first, 1 to min(m, n): 1.5 times the one wanted in the end, say.
    target_rank : int, optional
        Mean rank in the end, below `rank`; two thirds of it by default.
    total_steps : int, optional
        Number of training steps, over which PEFT takes the ranks down in ``peft_model.update_and_allocate(step)``; its
        phases are the options `tinit` and `tfinal`. Without it the ranks stay.
    alpha : float, optional
        The update is scaled by ``alpha / rank``; 2 rank by default.
    method, progress, rng
        As for `convert_to_lora`.
    **options
        More fields of ``peft.AdaLoraConfig``.

    Returns
    -------
    peft_model : peft.PeftModel
        The model as PEFT wraps it. Its outputs are what they were, to the bit.

    Raises
    ------
    TypeError, ValueError
        As `convert_to_lora`.

    Notes
    -----
    rank (m + n + 1) trained numbers a layer. The orthogonality penalty, which PEFT adds to the loss, starts at zero.

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
    rank = _validation.integer(rank, "rank", 1, 10**6)
    target_rank = max(1, 2 * rank // 3) if target_rank is None else target_rank
    target_rank = _validation.integer(target_rank, "target_rank", 1, rank)
    alpha = 2 * rank if alpha is None else _validation.positive(alpha, "alpha")
    phases = {"tinit": UNLIMITED - 1} if total_steps is None else {}
    total_steps = UNLIMITED if total_steps is None else _validation.integer(total_steps, "total_steps", 1, UNLIMITED)
    config = AdaLoraConfig(
        init_r=rank, target_r=target_rank, lora_alpha=alpha, target_modules=target_modules, total_step=total_steps,
        **phases | options,
    )  # fmt: skip
    stream = _validation.generator(rng)
    with all_or_nothing(model):
        peft_model = with_adapters(model, config, int(stream.integers(2**63)))
        return initialize_lora_cur_weights(peft_model, method=method, progress=progress, rng=stream)


def convert_to_curlora(
    model, target_modules, *, rank=16, scale=1.0, basis="orthonormal", method="osinsky", progress=True,
    rng: _validation.RandomSource = None, **options,
):  # fmt: skip
    """Put CURLoRA into a model: ``scale C U R`` beside chosen weights, out of their own columns and rows; U is trained.

    Parameters
    ----------
    model, target_modules
        As for `convert_to_lora`.
    rank : int, default 16
        Number k of columns and of rows, 1 to min(m, n).
    scale : float, default 1.0
        Factor of the update, above 0.
    basis : "orthonormal" or "raw", default "orthonormal"
        Orthonormal bases of the chosen columns and rows, or themselves, as published [1]_; the learning rate that
        suits the raw ones depends on the size of the weights.
    method : str, default "osinsky"
        Rule for columns and rows: one of `curtensor.selection.SELECTION_RULES`, or the published "inverse_norm".
    progress : bool, default True
        Show a progress bar.
    rng : None, int, SeedSequence or Generator, optional
        Source of randomness. Each layer has its own stream, by its name.
    **options
        More fields of `CURLoRAConfig`.

    Returns
    -------
    peft_model : peft.PeftModel
        The model as PEFT wraps it. Its outputs are what they were, to the bit, since U is zero at first.

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
    >>> count_parameters(convert_to_curlora(model, ["0"], rank=8, progress=False, rng=0))[0]
    64
    """
    seed = int(_validation.generator(rng).integers(2**63))
    config = CURLoRAConfig(
        r=rank, scale=scale, basis=basis, method=method, target_modules=target_modules,
        **{"seed": seed} | options,
    )  # fmt: skip
    config.progress = _validation.flag(progress, "progress")
    with all_or_nothing(model):
        return with_adapters(model, config, seed)


def convert_to_tcurlora(
    model, target_modules, *, ranks=16, scale=1.0, form="shared_core", factor_rank=4, basis="orthonormal",
    method="osinsky", progress=True, rng: _validation.RandomSource = None, **options,
):  # fmt: skip
    """Put tCURLoRA into a model: groups of weights of one shape get an update in tensor form, whose core they share.

    The L weights (m, n) of a group are stacked to a tensor (m, n, L). The update is S x_1 C x_2 R^T x_3 E, where C are
    columns of any of the weights, R rows, E (L, r_3) fibres across the layers, and S is trained.

    Parameters
    ----------
    model, target_modules
        As for `convert_to_lora`.
    ranks : int or three ints, default 16
        (r_1, r_2, r_3), at most (m, n, L); an int k stands for (k, k, L).
    scale : float, default 1.0
        Factor of the update, above 0.
    form : "shared_core", "tubal" or "mode_factors", default "shared_core"
        As above; by the t-product C * U * R, where `ranks` is an int k; or with the weights' own core and
        ``I + B_n A_n`` in each mode, B_n A_n trained.
    factor_rank : int, default 4
        Rank of B_n A_n; for "mode_factors" only.
    basis, method, progress, rng
        As for `convert_to_curlora`.
    **options
        More fields of `TCURLoRAConfig`: `groups`, where layers of one shape whose names differ in numbers alone shall
        not be one.

    Returns
    -------
    peft_model : peft.PeftModel
        The model as PEFT wraps it. Its outputs are what they were, to the bit.

    Raises
    ------
    TypeError, ValueError
        As `convert_to_lora`; also if the weights of a group differ in shape, dtype or device.

    Notes
    -----
    r_1 r_2 r_3 trained numbers a group (tubal: L k^2; mode factors: 2 p (r_1 + r_2 + r_3) with p = factor_rank, at most
    2 r_n^2 for mode n). With a single layer, "shared_core" and "tubal" are CURLoRA.

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
    seed = int(_validation.generator(rng).integers(2**63))
    config = TCURLoRAConfig(
        r=ranks, scale=scale, form=form, factor_rank=factor_rank, basis=basis, method=method,
        target_modules=target_modules, **{"seed": seed} | options,
    )  # fmt: skip
    config.progress = _validation.flag(progress, "progress")
    with all_or_nothing(model):
        return with_adapters(model, config, seed)


def with_adapters(model, config, seed):
    """PEFT's model with new adapters, whatever of torch's reads weights made to call them."""
    check_targets(model, config)
    config.target_modules = open_attentions(model, config.target_modules)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        peft_model = get_peft_model(model, config)
    check_layers(peft_model, config)
    join_names(model)
    call_layers(model)
    return peft_model


@contextlib.contextmanager
def all_or_nothing(model):
    """Within a ``with`` block that puts adapters into a model: where anything goes wrong, the model as it was."""
    if not isinstance(model, nn.Module):
        raise _validation.complain(TypeError, "model", "a torch.nn.Module", type(model).__name__)
    if found := [name for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)]:
        raise _validation.complain(ValueError, "model", "without adapters", f"one in {found[0]!r}")
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        yield
    except BaseException:
        take_out(model)
        for parameter, flag in before:
            parameter.requires_grad_(flag)
        raise


def check_targets(model, config):
    """Raise where a name in a configuration matches nothing, and warn where "all-linear" leaves experts out."""
    modules = [name for name, _ in model.named_modules() if name]
    packed = [f"{name}.in_proj_weight".lstrip(".") for name, module in model.named_modules()
              if isinstance(module, nn.MultiheadAttention) and module._qkv_same_embed_dim]  # fmt: skip
    parameters = [name for name, _ in model.named_parameters()]
    for argument, known in (
        ("target_modules", modules + packed),
        ("exclude_modules", modules + packed),
        ("modules_to_save", modules),
        ("target_parameters", parameters),
    ):
        wanted = getattr(config, argument, None) or ()
        whole = isinstance(wanted, str)
        for name in [wanted] if whole else _validation.name_list(wanted, argument):
            pattern = compiled(name if whole else rf"(.*\.)?{re.escape(name)}", argument)
            if name != "all-linear" and not any(map(pattern.fullmatch, known)):
                text = f"names in the model; {closest(name, known)}"
                raise _validation.complain(ValueError, argument, text, repr(name))
    if config.target_modules == "all-linear" and not config.target_parameters:
        fused = [name for name, parameter in model.named_parameters() if parameter.ndim == 3 and "expert" in name]
        if fused:
            ends = sorted({name.split(".layers.")[-1].partition(".")[2] or name for name in fused})
            text = f"'all-linear' leaves out fused experts, which are parameters: target_parameters={ends} adapts them"
            warnings.warn(text, stacklevel=5)


def compiled(pattern, argument):
    """A regular expression, or the complaint that it is none."""
    try:
        return re.compile(pattern)
    except re.error:
        raise _validation.complain(ValueError, argument, "names or a regular expression", repr(pattern)) from None


def check_layers(peft_model, config):
    """Raise where a number of a layer is none of a target's."""
    numbers = config.layers_to_transform
    for number in [numbers] if isinstance(numbers, int) else numbers or ():
        if not any(f".{number}." in name for name in peft_model.base_model.targeted_module_names):
            raise _validation.complain(ValueError, "layers_to_transform", "numbers of layers with targets", number)


def closest(name, known):
    """What could have been meant by a name that matches nothing."""
    candidates = dict.fromkeys([other.rsplit(".", 1)[-1] for other in known] + known)
    near = difflib.get_close_matches(name, candidates, n=3, cutoff=0.4) or list(candidates)[:3]
    return f"the closest are {', '.join(map(repr, near))}"


def narrow_layers(model, rank):
    """Linear layers with a side below the rank, as patterns for PEFT, with that side."""
    weights = {name: layer.weight for name, layer in model.named_modules() if isinstance(layer, (nn.Linear, Conv1D))}
    return {f"^{re.escape(name)}": min(W.shape) for name, W in weights.items() if min(W.shape) < rank}


def count_parameters(model):
    """Numbers that are trained, and all numbers.

    Parameters
    ----------
    model : torch.nn.Module
        With or without adapters.

    Returns
    -------
    trainable, total : int
        Parameters shared by several modules count once.
    """
    return PeftModel.get_nb_trainable_parameters(model)


def print_trainable_parameters(model):
    """Print `count_parameters` in the words of PEFT.

    Parameters
    ----------
    model : torch.nn.Module
        With or without adapters.

    Examples
    --------
    >>> import torch
    >>> from curtensor.adapters import print_trainable_parameters
    >>> print_trainable_parameters(torch.nn.Linear(9, 10))
    trainable params: 100 || all params: 100 || trainable%: 100.0000
    """
    trainable, total = count_parameters(model)
    print(f"trainable params: {trainable:,d} || all params: {total:,d} || trainable%: {100 * trainable / total:.4f}")


def adapter_parameters(model):
    """The trained numbers of the adapters, for an optimiser; not those of modules trained whole.

    Parameters
    ----------
    model : peft.PeftModel
        With adapters.

    Returns
    -------
    parameters : list of torch.nn.Parameter
        Each once.

    Raises
    ------
    TypeError
        If the model is no ``PeftModel``.
    """
    peft_model = peft_model_in(model)
    prefix = peft_model.base_model.prefix
    return [p for name, p in peft_model.named_parameters() if p.requires_grad and prefix in name]


@torch.no_grad()
def merge(model):
    """Put the active adapters' updates into the weights, so that the model is as fast as without adapters.

    Parameters
    ----------
    model : peft.PeftModel
        With adapters, none of them merged. It may be within torch.compile's or DDP's wrapper.

    Raises
    ------
    TypeError
        If the model is no ``PeftModel``.
    ValueError
        If an adapter is merged already, or a weight would not be finite; nothing is changed then.

    Notes
    -----
    PEFT's ``merge_adapter``, after which `unmerge` brings the weights back bit for bit: they are kept, one more copy
    of each adapted weight. A weight that other modules share is theirs no more, so that these do not change.

    Examples
    --------
    >>> import torch
    >>> from curtensor.adapters import convert_to_lora, merge, unmerge
    >>> model = convert_to_lora(torch.nn.Sequential(torch.nn.Linear(4, 4)), ["0"], rank=2, rng=0)
    >>> merge(model)
    >>> unmerge(model)
    """
    layers = adapted_layers(peft_model_in(model))
    for name, layer in layers.items():
        if layer.merged:
            raise _validation.complain(ValueError, f"the adapter of {name!r}", "unmerged to be merged", "a merged one")
    try:
        for name, layer in layers.items():
            merge_layer(name, layer)
    except ValueError:
        for layer in reversed(layers.values()):
            bring_back(layer)
        raise


@torch.no_grad()
def unmerge(model):
    """Bring back the weights from before `merge`, bit for bit.

    Parameters
    ----------
    model : peft.PeftModel
        With adapters, all of them merged by `merge`.

    Raises
    ------
    TypeError
        If the model is no ``PeftModel``.
    ValueError
        If no adapter is merged, or one by PEFT's own call; nothing is changed then.
    """
    layers = adapted_layers(peft_model_in(model))
    merged = [layer for layer in layers.values() if layer.merged]
    for name, layer in layers.items():
        if not merged or (layer.merged and not any(key.startswith(KEPT) for key in layer._buffers)):
            text = "merged by merge to be unmerged"
            raise _validation.complain(ValueError, f"the adapter of {name!r}", text, "an unmerged one")
    for layer in reversed(merged):
        bring_back(layer)


@torch.no_grad()
def unload(model, *, keep_update=False):
    """Take the adapters out, and leave the base layers.

    Parameters
    ----------
    model : peft.PeftModel
        With adapters, merged or not.
    keep_update : bool, default False
        Leave the updates in the weights, as PEFT's ``merge_and_unload`` does. What `merge` has put into the weights
        stays in them either way, as with PEFT: `unmerge` first for the base's.

    Returns
    -------
    model : torch.nn.Module
        The base model itself, under the same names as before.

    Raises
    ------
    TypeError
        If the model is no ``PeftModel``.
    ValueError
        If a weight would not be finite; nothing is changed then.

    Notes
    -----
    With `keep_update`, each update is made twice, the first time to see that it is finite, and one at a time is held.
    After a start with ``init="cur_residual"``, the weights of the base come back up to rounding.
    """
    keep_update = _validation.flag(keep_update, "keep_update")
    peft_model = peft_model_in(model)
    layers = adapted_layers(peft_model)
    keep_update = keep_update or any(layer.merged for layer in layers.values())
    if has_residual_start(peft_model) and not keep_update:
        back_to_start(peft_model)
        keep_update = True
    if not keep_update:
        base = peft_model.unload()
    else:
        unmerged = {name: layer for name, layer in layers.items() if not layer.merged}
        for name, layer in unmerged.items():
            check_merge(name, layer)
        for layer in unmerged.values():
            if tied(peft_model, layer):
                own_parameters(layer, copy=True)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "All adapters are already merged")
            base = peft_model.merge_and_unload()
    take_out(base)
    return base


def peft_model_in(model):
    """The ``PeftModel`` itself, out of the wrappers of torch.compile and of parallel training."""
    model = extract_model_from_parallel(model, keep_torch_compile=False) if isinstance(model, nn.Module) else model
    if not isinstance(model, PeftModel):
        raise _validation.complain(
            TypeError, "model", "a peft.PeftModel, as convert_to_lora returns it", type(model).__name__
        )
    return model


def adapted_layers(peft_model):
    """The layers with adapters, by their names in the base model."""
    base = peft_model.get_base_model()
    layers = {name: layer for name, layer in base.named_modules() if isinstance(layer, BaseTunerLayer)}
    if not layers:
        raise _validation.complain(ValueError, "model", "one with adapters on its layers", "none")
    return layers


def merge_layer(name, layer):
    """Merge one layer's active adapters, its base's parameters kept beside it; where that fails, change nothing."""
    for key, parameter in layer.get_base_layer().named_parameters(recurse=False):
        layer.register_buffer(f"{KEPT}{key}", parameter, persistent=False)
    own_parameters(layer)
    try:
        layer.merge(safe_merge=True)
    except ValueError as error:
        raise _validation.complain(ValueError, f"the merged weight of {name!r}", "finite", f"this: {error}") from error
    finally:
        if not layer.merged:
            bring_back(layer)


def check_merge(name, layer):
    """Raise unless a layer's merged weight would be finite."""
    if not isinstance(layer, LoraLinear) or layer.lora_variant or any(layer.lora_bias.values()):
        merge_layer(name, layer)
        bring_back(layer)
        return
    weight = layer.get_base_layer().weight  # and no copies of it, as PEFT's own check makes them
    for adapter in layer.active_adapters:
        if adapter in layer.lora_A:
            weight = weight + layer.get_delta_weight(adapter).to(weight.dtype)
    if not all(bound.isfinite() for bound in torch.aminmax(weight)):
        raise _validation.complain(ValueError, f"the merged weight of {name!r}", "finite", "NaN or infinity")


def own_parameters(layer, copy=False):
    """Give a base layer parameters that it shares with no other, so that merging changes no other."""
    base = layer.get_base_layer()
    for key, parameter in list(base.named_parameters(recurse=False)):
        data = parameter.detach().clone() if copy else parameter.detach()
        base._parameters[key] = nn.Parameter(data, requires_grad=parameter.requires_grad)


def bring_back(layer):
    """Unmerge one layer, to the very parameters that were kept."""
    if isinstance(layer, LoraLinear):
        layer.merged_adapters.clear()  # its `unmerge` would form the update once more, to take it off by rounding
    elif layer.merged:
        layer.unmerge()
    for name in [name for name in layer._buffers if name.startswith(KEPT)]:
        kept = layer._buffers.pop(name)
        kept = kept if isinstance(kept, nn.Parameter) else nn.Parameter(kept, requires_grad=False)
        layer.get_base_layer()._parameters[name.removeprefix(KEPT)] = kept
