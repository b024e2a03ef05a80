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
        As in ``peft.LoraConfig``. The packed projection of ``nn.MultiheadAttention`` goes by "in_proj_weight";
        "all-linear" leaves out fused experts, with a warning, unless `target_parameters` names them.
    rank : int, default 8
        Rank r of the update, at least 1; r (m + n) numbers a layer are trained.
    alpha : float, optional
        The update is scaled by ``alpha / rank``; 2 rank by default.
    init : "kaiming", "cur" or "cur_residual", default "kaiming"
        PEFT's random start, or one of `initialize_lora_cur_weights`; then "all-linear" gives narrow layers lower ranks.
    method, progress, rng
        As for `initialize_lora_cur_weights`. Global random states are not touched.
    **options
        More fields of ``peft.LoraConfig``.

    Returns
    -------
    peft_model : peft.PeftModel
        The model as PEFT wraps it, with all of PEFT's methods. Its outputs are what they were.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong, a name matches nothing (the closest ones are named), the model has adapters already, a
        layer cannot have one, or as in `initialize_lora_cur_weights`.

    Examples
    --------
    >>> from torch import nn
    >>> from curtensor.adapters import convert_to_lora, count_parameters
    >>> count_parameters(convert_to_lora(nn.Sequential(nn.Linear(20, 30), nn.Linear(30, 2)), ["0"], rank=4))
    (200, 892)
    """
    rank = _validation.integer(rank, "rank", 1, 10**6)
    alpha = 2 * rank if alpha is None else _validation.positive(alpha, "alpha")
    init = _validation.one_of(("kaiming", *INITS), init, "init")
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=target_modules, **options)
    stream = _validation.generator(rng)
    with all_or_nothing(model):
        if init != "kaiming" and target_modules == "all-linear":
            sides = {name: min(layer.weight.shape) for name, layer in model.named_modules()
                     if isinstance(layer, (nn.Linear, Conv1D))}  # fmt: skip
            narrow = {f"^{re.escape(name)}": side for name, side in sides.items() if side < rank}
            scales = {name: alpha * side / rank for name, side in narrow.items()}
            config.rank_pattern = narrow | (config.rank_pattern or {})
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
        As for `convert_to_lora`; what is returned and what is refused, too.
    rank : int, default 12
        Rank at first, 1 to min(m, n); rank (m + n + 1) numbers a layer are trained.
    target_rank : int, optional
        Mean rank in the end, at most `rank`; two thirds of it by default.
    total_steps : int, optional
        Number of training steps, over which PEFT takes the ranks down in ``peft_model.update_and_allocate(step)``; its
        phases are the options `tinit` and `tfinal`. Without it the ranks stay.
    alpha, method, progress, rng
        As for `convert_to_lora`.
    **options
        More fields of ``peft.AdaLoraConfig``.

    Examples
    --------
    >>> from torch import nn
    >>> from curtensor.adapters import convert_to_adalora
    >>> model = convert_to_adalora(nn.Sequential(nn.Linear(20, 30)), ["0"], rank=4, progress=False)
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
    model, target_modules, *, rank=16, progress=True, rng: _validation.RandomSource = None, **options
):
    """Put CURLoRA into a model: ``scale C U R`` beside chosen weights, out of their own columns and rows; U is trained.

    Parameters
    ----------
    model, target_modules
        As for `convert_to_lora`; what is returned and what is refused, too. Outputs stay to the bit.
    rank : int, default 16
        Number k of columns and of rows, 1 to min(m, n); k^2 numbers a layer are trained.
    progress, rng
        As for `convert_to_lora`.
    **options
        `scale`, `basis`, `method` and the other fields of `CURLoRAConfig`.

    Examples
    --------
    >>> from torch import nn
    >>> from curtensor.adapters import convert_to_curlora
    >>> model = convert_to_curlora(nn.Sequential(nn.Linear(20, 30)), ["0"], rank=8, progress=False)
    """
    return with_tuner(CURLoRAConfig, model, target_modules, rank, progress, rng, options)


def convert_to_tcurlora(
    model, target_modules, *, ranks=16, progress=True, rng: _validation.RandomSource = None, **options
):
    """Put tCURLoRA into a model: groups of weights of one shape get an update in tensor form, whose core they share.

    Parameters
    ----------
    model, target_modules
        As for `convert_to_lora`; what is returned and what is refused, too. Outputs stay to the bit.
    ranks : int or three ints, default 16
        (r_1, r_2, r_3), at most (m, n, L) for L weights (m, n); an int k stands for (k, k, L). r_1 r_2 r_3 numbers a
        group are trained; of other forms as `TCURLoRAConfig` says.
    progress, rng
        As for `convert_to_lora`.
    **options
        `form`, `factor_rank`, `groups`, `scale`, `basis`, `method` and the other fields of `TCURLoRAConfig`.

    Examples
    --------
    >>> from torch import nn
    >>> from curtensor.adapters import convert_to_tcurlora
    >>> model = convert_to_tcurlora(nn.Sequential(nn.Linear(9, 9), nn.Linear(9, 9)), ["0", "1"], ranks=4, rng=0)
    """
    return with_tuner(TCURLoRAConfig, model, target_modules, ranks, progress, rng, options)


def with_tuner(config_class, model, target_modules, r, progress, rng, options):
    """PEFT's model with a new adapter of one of our own methods."""
    seed = int(_validation.generator(rng).integers(2**63))
    config = config_class(r=r, target_modules=target_modules, **{"seed": seed} | options)
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
    numbers, targets = config.layers_to_transform, peft_model.base_model.targeted_module_names
    for number in [numbers] if isinstance(numbers, int) else numbers or ():
        if not any(f".{number}." in name for name in targets):
            raise _validation.complain(ValueError, "layers_to_transform", "numbers of layers with targets", number)
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
    parameters = [name for name, _ in model.named_parameters()]
    targets = modules + [name for name in parameters if name.endswith("in_proj_weight")]
    for argument, known in (
        ("target_modules", targets), ("exclude_modules", targets), ("modules_to_save", modules),
        ("target_parameters", parameters),
    ):  # fmt: skip
        wanted = getattr(config, argument) or ()
        whole = isinstance(wanted, str)
        for name in [wanted] if whole else _validation.name_list(wanted, argument):
            pattern = name if whole else rf"(.*\.)?{re.escape(name)}"
            try:
                found = name == "all-linear" or any(re.fullmatch(pattern, other) for other in known)
            except re.error:
                raise _validation.complain(ValueError, argument, "a regular expression", repr(name)) from None
            if not found:
                candidates = dict.fromkeys([other.rsplit(".", 1)[-1] for other in known] + known)
                near = difflib.get_close_matches(name, candidates, n=3, cutoff=0.4) or list(candidates)[:3]
                text = f"names in the model; the closest are {', '.join(map(repr, near))}"
                raise _validation.complain(ValueError, argument, text, repr(name))
    if config.target_modules == "all-linear" and not config.target_parameters:
        fused = [name for name, parameter in model.named_parameters() if parameter.ndim == 3 and "expert" in name]
        if fused:
            ends = sorted({name.split(".layers.")[-1].partition(".")[2] or name for name in fused})
            text = f"'all-linear' leaves out fused experts, which are parameters: target_parameters={ends} adapts them"
            warnings.warn(text, stacklevel=5)


def count_parameters(model):
    """Numbers that are trained, and all numbers, of any ``torch.nn.Module``; what several modules share counts once."""
    return PeftModel.get_nb_trainable_parameters(model)


def print_trainable_parameters(model):
    """Print `count_parameters` of any ``torch.nn.Module`` in the words of PEFT."""
    trainable, total = count_parameters(model)
    print(f"trainable params: {trainable:,d} || all params: {total:,d} || trainable%: {100 * trainable / total:.4f}")


def adapter_parameters(model):
    """A list of what is trained of a ``PeftModel``'s adapters, for an optimiser; no modules that are trained whole."""
    peft_model, _ = adapted(model)
    prefix = peft_model.base_model.prefix
    return [p for name, p in peft_model.named_parameters() if p.requires_grad and prefix in name]


@torch.no_grad()
def merge(model):
    """Put the active adapters' updates into the weights, so that the model is as fast as without adapters.

    `unmerge` brings the weights back bit for bit: they are kept, one more copy of each adapted weight. A weight that
    other modules share is theirs no more, so that these do not change.

    Parameters
    ----------
    model : peft.PeftModel
        With adapters, none of them merged. It may be within torch.compile's or DDP's wrapper.

    Raises
    ------
    TypeError, ValueError
        If the model is no ``PeftModel``, an adapter is merged already, or a weight would not be finite; nothing is
        changed then.
    """
    _, layers = adapted(model)
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
    """Bring back the weights of a ``PeftModel`` from before `merge`, bit for bit.

    Raises
    ------
    TypeError, ValueError
        If the model is no ``PeftModel``, no adapter is merged, or one by PEFT's own call; nothing is changed then.
    """
    _, layers = adapted(model)
    merged = [layer for layer in layers.values() if layer.merged]
    for name, layer in layers.items():
        if not merged or (layer.merged and not any(key.startswith(KEPT) for key in layer._buffers)):
            text = "merged by merge to be unmerged"
            raise _validation.complain(ValueError, f"the adapter of {name!r}", text, "an unmerged one")
    for layer in reversed(merged):
        bring_back(layer)


@torch.no_grad()
def unload(model, *, keep_update=False):
    """Take the adapters out of a ``PeftModel``, and leave the base model, which is returned.

    After a start with ``init="cur_residual"``, its weights are what they were up to rounding.

    Parameters
    ----------
    model : peft.PeftModel
        With adapters. Those merged stay in the weights, as with PEFT: `unmerge` first for the base's.
    keep_update : bool, default False
        Leave the updates of the others in the weights too, as PEFT's ``merge_and_unload`` does.

    Raises
    ------
    TypeError, ValueError
        If the model is no ``PeftModel``, or a weight would not be finite; nothing is changed then.
    """
    keep_update = _validation.flag(keep_update, "keep_update")
    peft_model, layers = adapted(model)
    keep_update = keep_update or any(layer.merged for layer in layers.values())
    if has_residual_start(peft_model) and not keep_update:
        back_to_start(peft_model)
        keep_update = True
    if keep_update:
        unmerged = {name: layer for name, layer in layers.items() if not layer.merged}
        for name, layer in unmerged.items():  # all of them before the first is changed
            check_merge(name, layer)
        for layer in unmerged.values():
            if tied(peft_model, layer):
                own_parameters(layer, copy=True)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "All adapters are already merged")
            base = peft_model.merge_and_unload()
    else:
        base = peft_model.unload()
    take_out(base)
    return base


def adapted(model):
    """The ``PeftModel``, out of torch.compile's and DDP's wrappers, and its adapted layers by names in the base."""
    model = extract_model_from_parallel(model, keep_torch_compile=False) if isinstance(model, nn.Module) else model
    if not isinstance(model, PeftModel):
        text = "a peft.PeftModel, as convert_to_lora returns it"
        raise _validation.complain(TypeError, "model", text, type(model).__name__)
    modules = model.get_base_model().named_modules()
    return model, {name: layer for name, layer in modules if isinstance(layer, BaseTunerLayer)}


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
