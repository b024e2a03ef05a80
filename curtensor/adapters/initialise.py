"""Starts of PEFT's own LoRA and AdaLoRA layers out of the weights' rows and columns."""

import numpy as np
import torch
from peft import AdaLoraConfig, LoraConfig, PeftModel
from peft.tuners.adalora import AdaLoraLayer, SVDLinear
from peft.tuners.lora import Linear, LoraLayer, ParamWrapper
from torch import nn
from tqdm import tqdm
from transformers.pytorch_utils import Conv1D

from curtensor import _validation
from curtensor.adapters.choice import adapter_rule
from curtensor.adapters.deltas import chosen_lines, columns_at, projected_weights, spanning
from curtensor.adapters.tuner import stream
from curtensor.adapters.weights import lies_in_by_out, readable, whole

INITS = ("cur", "cur_residual")
# PEFT's starts that leave the base weight alone; the others take B A out of it.
HARMLESS = (True, False, "gaussian", "eva", "orthogonal", "bdlora")


@torch.no_grad()
def initialize_lora_cur_weights(
    peft_model, adapter_name="default", *, init="cur", method="osinsky", progress=True,
    rng: _validation.RandomSource = None,
):  # fmt: skip
    """Start PEFT's LoRA, DoRA, rsLoRA or AdaLoRA layers from rows and columns that a CUR chooses of each weight.

    Parameters
    ----------
    peft_model : peft.PeftModel
        With LoRA or AdaLoRA adapters on linear layers, transformers' Conv1D or fused experts (``target_parameters``),
        none of them merged. Changed in place, all of it or, where anything is wrong, nothing.
    adapter_name : str, default "default"
        Which of the model's adapters.
    init : "cur" or "cur_residual", default "cur"
        "cur": A is an orthonormal basis of chosen rows [1]_, as large as PEFT's random A, and B is zero; AdaLoRA's P
        and Q are bases of columns and rows, and its singular values zero. "cur_residual": B and A are balanced factors
        of the CUR of W, and scale B A is taken out of W, as in PiSSA [2]_. For LoRA alone, saved by `export_lora`:
        PEFT would not take B A out of the base again on loading, so that ``save_pretrained`` refuses.
    method : str or callable, default "osinsky"
        Rule for rows and columns: one of `curtensor.selection.SELECTION_RULES`, or "inverse_norm", or a function.
    progress : bool, default True
        Show a progress bar.
    rng : None, int, SeedSequence or Generator, optional
        Source of randomness. Each layer has its own stream, by its name.

    Returns
    -------
    peft_model : peft.PeftModel
        The same object. Its outputs are those of the base: exactly with "cur", to rounding with "cur_residual".

    Raises
    ------
    TypeError, ValueError
        If the adapter or a layer of it is of another kind, quantised, merged or on the meta device; if PEFT has taken
        its start out of the base weights already (PiSSA, OLoRA, CorDA, LoftQ, ...); if a weight is not finite or of
        too low a rank; for "cur_residual" also if one is shared with another module, or the model has other adapters.

    Notes
    -----
    "cur" passes over each weight once, or twice for AdaLoRA, and "cur_residual" four times; O(m n r) operations.
    After "cur_residual", a model with its adapter disabled is the residual; `unload` puts back what was taken out.

    References
    ----------
    .. [1] A. I. Osinsky, "Close to optimal column approximations with a single SVD", 2023, arXiv:2308.09068.
    .. [2] F. Meng, Z. Wang, M. Zhang, "PiSSA: Principal singular values and singular vectors adaptation of large
       language models", 2024, arXiv:2404.02948.

    Examples
    --------
    >>> import peft
    >>> from torch import nn
    >>> from curtensor.adapters import initialize_lora_cur_weights
    >>> model = peft.get_peft_model(nn.Sequential(nn.Linear(20, 30)), peft.LoraConfig(r=4, target_modules=["0"]))
    >>> model = initialize_lora_cur_weights(model, progress=False, rng=0)
    """
    config = checked_config(peft_model, adapter_name)
    residual = _validation.one_of(INITS, init, "init") == "cur_residual"
    rule = adapter_rule(method)
    progress = _validation.flag(progress, "progress")
    seed = int(_validation.generator(rng).integers(2**63))
    layers = {name: layer for name, layer in peft_model.named_modules()
              if isinstance(layer, LoraLayer) and adapter_name in layer.r}  # fmt: skip
    weights = {name: checked_weights(name, layer) for name, layer in layers.items()}
    if residual:
        check_alone(peft_model, config, layers)

    starts = {}
    for name, layer in tqdm(layers.items(), desc="choose rows", disable=not progress):
        rng = stream(seed, name)
        parts = [chosen_bases(name, W, layer.r[adapter_name], rule, rng) for W in weights[name]]
        if residual:
            scale = layer.scaling[adapter_name]
            parts = [balanced(W, C, R, scale) for W, (C, R) in zip(weights[name], parts, strict=True)]
        starts[name] = parts
    for name, parts in starts.items():
        START[type(config)](layers[name], adapter_name, parts, residual)
    freeze_ranks(peft_model)
    if residual:
        config.init_lora_weights = init
        peft_model.save_pretrained = refuse_to_save
    return peft_model


def checked_config(peft_model, adapter_name):
    """The adapter's configuration, if it is one that can be started."""
    if not isinstance(peft_model, PeftModel):
        raise _validation.complain(TypeError, "peft_model", "a peft.PeftModel", type(peft_model).__name__)
    config = peft_model.peft_config[_validation.one_of(peft_model.peft_config, adapter_name, "adapter_name")]
    what = f"the adapter {adapter_name!r}"
    if type(config) not in START:
        raise _validation.complain(TypeError, what, "a LoRA or AdaLoRA adapter", type(config).__name__)
    own = [name for name in ("kasa_config", "velora_config", "monteclora_config") if getattr(config, name, None)]
    if config.init_lora_weights not in HARMLESS or own:
        start = own[0] if own else f"init_lora_weights={config.init_lora_weights!r}"
        raise _validation.complain(ValueError, what, "on untouched base weights", f"{start}, which has changed them")
    return config


def checked_weights(name, layer):
    """The weights (m, n) that a layer adapts, out by in: one, or one for each expert."""
    if layer.merged:
        raise _validation.complain(ValueError, f"the adapter of {name!r}", "unmerged", "a merged one")
    if any(p.is_meta for p in layer.parameters()):
        raise _validation.complain(ValueError, f"the layer {name!r}", "one with data", "tensors on the meta device")
    base = layer.get_base_layer()
    if isinstance(layer, ParamWrapper):
        stacked = whole(layer.get_param())
        in_by_out = stacked.ndim == 3 and not layer._did_swap_in_out_features
        weights = [W.T if in_by_out else W for W in (stacked if stacked.ndim == 3 else stacked[None])]
    elif isinstance(layer, (Linear, SVDLinear)) and isinstance(base, (nn.Linear, Conv1D)):
        weights = [whole(base.weight.T if lies_in_by_out(base) else base.weight)]
    else:
        what = "a torch.nn.Linear, transformers' Conv1D or a parameter of experts"
        raise _validation.complain(TypeError, f"the module {name!r}", what, type(base).__name__)
    for weight in weights:
        readable(name, weight)
    return weights


def check_alone(peft_model, config, layers):
    """Raise unless what is taken out of the base weights concerns this adapter alone."""
    if isinstance(config, AdaLoraConfig):
        raise _validation.complain(ValueError, "init", "'cur' for AdaLoRA", "'cur_residual'")
    if len(peft_model.peft_config) > 1:
        raise _validation.complain(ValueError, "peft_model", "one without other adapters", list(peft_model.peft_config))
    for name, layer in layers.items():
        if tied(peft_model, layer):
            raise _validation.complain(ValueError, f"the weight of {name!r}", "its own", "one that another module has")


def tied(peft_model, layer):
    """Whether another module has a parameter of a layer's base layer."""
    base = layer.get_base_layer()
    own = {id(parameter) for parameter in base.parameters(recurse=False)}
    others = (module for module in peft_model.modules() if module is not base)
    return any(id(p) in own for module in others for p in module._parameters.values())


def chosen_bases(name, weight, rank, rule, rng):
    """Orthonormal bases of chosen columns (m, r) and of chosen rows (r, n), in float64."""
    columns, rows = chosen_lines(name, [weight], rank, rank, rule, rng)
    C, R = columns_at([weight], columns), columns_at([weight.T], rows)
    return spanning(name, C, "orthonormal"), spanning(name, R, "orthonormal").T


def balanced(weight, C, R, scale):
    """Balanced B and A with scale B A the CUR of the weight with the projection core."""
    U, s, Vh = map(torch.from_numpy, np.linalg.svd(projected_weights(weight, C, R)))
    root = (s / scale).sqrt()
    return C @ U * root, root[:, None] * Vh @ R


def start_lora(layer, adapter_name, parts, residual):
    """A from the rows and B zero, or both from the CUR, which is then taken out of the base weight."""
    A, B = layer.lora_A[adapter_name].weight, layer.lora_B[adapter_name].weight
    A.copy_(torch.cat([A_e if residual else A_e / 3**0.5 for _, A_e in parts]))
    B.copy_(torch.stack([B_e for B_e, _ in parts], dim=2).flatten(1) if residual else torch.zeros_like(B))
    if residual:
        weight = layer.get_param() if isinstance(layer, ParamWrapper) else layer.get_base_layer().weight
        weight.data = (weight - layer.get_delta_weight(adapter_name)).to(weight.dtype)
        layer.register_buffer("start_A", A.detach().clone(), persistent=False)
        layer.register_buffer("start_B", B.detach().clone(), persistent=False)
    start_magnitude(layer, adapter_name)


def start_magnitude(layer, adapter_name):
    """DoRA's magnitudes are those of the base weight, which base and start together are."""
    if adapter_name in layer.lora_magnitude_vector:
        magnitude, weight = layer.lora_magnitude_vector[adapter_name], layer.get_base_layer().weight
        BA = layer.lora_B[adapter_name].weight @ layer.lora_A[adapter_name].weight
        magnitude.weight.copy_(magnitude.get_weight_norm(weight, BA, layer.scaling[adapter_name]))


def start_adalora(layer, adapter_name, parts, residual):
    """P and Q orthonormal, the singular values zero."""
    ((P, Q),) = parts
    layer.lora_B[adapter_name].copy_(P)
    layer.lora_A[adapter_name].copy_(Q)
    layer.lora_E[adapter_name].zero_()


def freeze_ranks(model):
    """AdaLoRA's count of its rank is no parameter, though PEFT 0.21 lets it be trained in double and half precision."""
    for layer in model.modules():
        if isinstance(layer, AdaLoraLayer):
            layer.ranknum.requires_grad_(False)


START = {LoraConfig: start_lora, AdaLoraConfig: start_adalora}


def refuse_to_save(*args, **kwargs):
    """What ``save_pretrained`` of a model with a residual start does."""
    what = "exported by export_lora, as LoRA on the untouched base: PEFT would not take B A out of it again on loading"
    raise _validation.complain(ValueError, "an adapter with init='cur_residual'", what, "save_pretrained")


def has_residual_start(peft_model):
    """Whether a start was taken out of the base weights."""
    return vars(peft_model).get("save_pretrained") is refuse_to_save


@torch.no_grad()
def back_to_start(peft_model):
    """Give adapters with a residual start the numbers that were taken out of the base weights."""
    for layer in peft_model.modules():
        if isinstance(layer, LoraLayer):
            (name,) = layer.lora_A
            layer.lora_A[name].weight.copy_(layer.start_A)
            layer.lora_B[name].weight.copy_(layer.start_B)
            start_magnitude(layer, name)
