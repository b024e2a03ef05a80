"""Adapters on disk: PEFT's files, written whole and checked before a model is changed, and any adapter as LoRA."""

import contextlib
import dataclasses
import math
import os
import re
import shutil
import tempfile
from pathlib import Path

import torch
from peft import LoraConfig, PeftConfig, get_peft_model
from peft.tuners.adalora import AdaLoraLayer
from peft.tuners.lora import LoraLayer
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers.pytorch_utils import Conv1D

from curtensor import _validation
from curtensor.adapters.convert import adapted_layers, all_or_nothing, peft_model_in
from curtensor.adapters.initialise import freeze_ranks, has_residual_start, refuse_to_save
from curtensor.adapters.transformer import LayeredAttention, call_layers, join_names, open_attentions
from curtensor.adapters.tuner import Experts
from curtensor.adapters.weights import whole

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"


def save_adapter(model, folder):
    """Write a model's adapters to a folder as PEFT does, each file whole or not at all.

    Parameters
    ----------
    model : peft.PeftModel
        With adapters, merged or not; it may be within torch.compile's or DDP's wrapper, or sharded by FSDP2.
    folder : str or path
        Made if it does not exist. The files of PEFT's ``save_pretrained`` in it are replaced.

    Raises
    ------
    TypeError
        If the model is no ``PeftModel``.
    ValueError
        If an adapter was started with ``init="cur_residual"``: `export_lora` writes that.

    Notes
    -----
    Several processes may write to one folder at the same time. Every process of a sharded model must call it.

    Examples
    --------
    >>> import tempfile, torch
    >>> from curtensor.adapters import convert_to_lora, load_adapter, save_adapter
    >>> model = convert_to_lora(torch.nn.Sequential(torch.nn.Linear(9, 9)), ["0"], rank=2, rng=0)
    >>> base = torch.nn.Sequential(torch.nn.Linear(9, 9))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_adapter(model, folder)
    ...     model = load_adapter(base, folder)
    """
    peft_model = peft_model_in(model)
    if has_residual_start(peft_model):
        refuse_to_save()
    with whole_files(folder) as part:
        peft_model.save_pretrained(part, state_dict=gathered_state(peft_model))


def load_adapter(model, folder, *, adapter_name="default", is_trainable=True):
    """Put the adapter which `save_adapter`, `export_lora` or PEFT wrote into a model.

    Parameters
    ----------
    model : torch.nn.Module
        The base model as it was when the adapter was made, without adapters. Changed in place, all or nothing.
    folder : str or path
        Where ``adapter_config.json`` and ``adapter_model.safetensors`` are.
    adapter_name : str, default "default"
        What PEFT is to call it.
    is_trainable : bool, default True
        Whether it is to be trained further.

    Returns
    -------
    peft_model : peft.PeftModel
        The model as PEFT wraps it, frozen but for the adapter and the modules trained whole.

    Raises
    ------
    TypeError
        If the model is no ``torch.nn.Module``.
    FileNotFoundError
        If a file is not there.
    ValueError
        If a file is damaged, the model has adapters already, a layer is not there or has another shape, or the base is
        another one than that which a CURLoRA or tCURLoRA adapter was made for.

    Notes
    -----
    Never unpickles, and never asks a network. torch's global random state is not touched.
    """
    is_trainable = _validation.flag(is_trainable, "is_trainable")
    config, tensors = read_files(Path(folder))
    config.inference_mode = not is_trainable
    with all_or_nothing(model):
        try:
            config.target_modules = open_attentions(model, config.target_modules)
            with torch.random.fork_rng(devices=[]):
                peft_model = get_peft_model(model, config, adapter_name)
            join_names(model)
            kinds = get_peft_model_state_dict(peft_model, adapter_name=adapter_name)
            found = set_peft_model_state_dict(peft_model, tensors, adapter_name)
            own = (f".{peft_model.base_model.prefix}", ".modules_to_save.")
        except (KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise _validation.complain(ValueError, f"the adapter in {folder}", "one for this model", error) from error
        state = peft_model.state_dict(keep_vars=True)  # one tensor under all names of a layer, of which a file has one
        loaded = {id(tensor) for key, tensor in state.items() if key not in found.missing_keys}
        wrong = {
            "missing": [key for key in found.missing_keys
                        if any(part in key for part in own) and id(state[key]) not in loaded],
            "unknown to the model": found.unexpected_keys,
            "of another kind of numbers": [key for key, tensor in kinds.items() if key in tensors
                                           and tensor.is_floating_point() != tensors[key].is_floating_point()],
        }  # fmt: skip
        for what, names in wrong.items():
            if names:
                text = f"{names[0]} {what}"
                raise _validation.complain(ValueError, f"the adapter in {folder}", "one for this model", text)
        freeze_ranks(model)
        call_layers(model)
    return peft_model if is_trainable else peft_model.requires_grad_(False)


def read_files(folder):
    """An adapter's configuration and tensors, whole and finite."""
    for name in (CONFIG, TENSORS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name} must be a file, got none")
    try:
        config = PeftConfig.from_pretrained(str(folder))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _validation.complain(ValueError, str(folder / CONFIG), "a configuration of PEFT", error) from error
    for key, value in vars(config).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise _validation.complain(ValueError, f"{key} in {folder / CONFIG}", "finite", value)
    try:
        tensors = load_file(folder / TENSORS)
    except SafetensorError as error:
        raise _validation.complain(ValueError, str(folder / TENSORS), "a whole safetensors file", error) from error
    for key, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise _validation.complain(ValueError, f"{key} in {folder / TENSORS}", "finite", "NaN or infinity")
    return config, tensors


def gathered_state(model):
    """The state dict, None for PEFT to take it; of a sharded model with the adapters gathered from all processes."""
    if not any(hasattr(p, "full_tensor") for p in model.parameters()):
        return None
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    own = (f".{model.base_model.prefix}", ".modules_to_save.")
    return {
        name: whole(tensor) if name in trained or any(part in name for part in own) else tensor
        for name, tensor in model.state_dict().items()
    }


@contextlib.contextmanager
def whole_files(folder):
    """A new folder to write to, whose files then take the place of those in `folder`; PEFT goes on with its README."""
    os.makedirs(folder, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".part") as part:
        with contextlib.suppress(FileNotFoundError):
            shutil.copy(Path(folder, "README.md"), part)
        yield part
        for path in [path for path in Path(part).rglob("*") if path.is_file()]:
            target = Path(folder, path.relative_to(part))
            target.parent.mkdir(exist_ok=True)
            os.replace(path, target)


def export_lora(model, folder, *, adapter_name="default", rank=None, base_model_name=None, task_type=None):
    """Write an adapter of any kind as LoRA for the untouched base, in the files that PEFT and vLLM read.

    Parameters
    ----------
    model : peft.PeftModel
        With adapters, merged or not.
    folder : str or path
        Made if it does not exist. ``adapter_model.safetensors`` and ``adapter_config.json`` in it are replaced.
    adapter_name : str, default "default"
        Which of the model's adapters.
    rank : int, optional
        Largest rank; by default what is exact for each layer. A smaller one gives the best approximation of each
        update.
    base_model_name : str, optional
        What to write as the base model's name; by default what PEFT knows.
    task_type : str, optional
        PEFT's "CAUSAL_LM", "SEQ_CLS", ...; by default the adapter's own, or what the class of the model says.

    Returns
    -------
    errors : dict of str to float
        For each layer ``||update - B A||_F / ||update||_F``; zero without `rank`.

    Raises
    ------
    TypeError
        If the model is no ``PeftModel``, or an argument is of the wrong kind.
    ValueError
        If there is no such adapter, it is on an ``in_proj_weight``, `rank` is below 1 or given where an update is
        more than B A (DoRA, experts, embeddings), or a number is not finite.

    Notes
    -----
    The scales are in B, so that each layer's is 1 for a reader that knows one scale for all; other ranks than the
    largest are in ``rank_pattern``. Modules trained whole, biases and embeddings are in the file as PEFT writes
    them. Without `rank` nothing is decomposed: CURLoRA is (scale C U) R, tCURLoRA (scale C M_l) R, AdaLoRA P diag(e) Q
    and a start with ``init="cur_residual"`` [B, -B_0] [A; A_0], of rank 2 r. With it, a QR and a small singular value
    decomposition in float64, O((m + n) r^2) operations.

    References
    ----------
    .. [1] E. J. Hu and others, "LoRA: Low-rank adaptation of large language models", 2021, arXiv:2106.09685.
    """
    peft_model = peft_model_in(model)
    _validation.one_of(peft_model.peft_config, adapter_name, "adapter_name")
    rank = rank if rank is None else _validation.integer(rank, "rank", 1, 10**6)
    for name, value in (("base_model_name", base_model_name), ("task_type", task_type)):
        if not (value is None or isinstance(value, str)):
            raise _validation.complain(TypeError, name, "a str or None", _validation.describe(value))
    layers = {name: layer for name, layer in adapted_layers(peft_model).items() if has_adapter(layer, adapter_name)}
    state = get_peft_model_state_dict(peft_model, gathered_state(peft_model), adapter_name)
    prefix = peft_model.base_model.prefix
    tensors = {key: tensor for key, tensor in state.items() if f".{prefix}" not in key}
    ranks, errors = {}, dict.fromkeys(layers, 0.0)
    for name, layer in layers.items():
        own = lora_tensors(peft_model, name, layer, adapter_name, state)
        if not all(torch.isfinite(tensor).all() for tensor in own.values()):
            raise _validation.complain(ValueError, f"the update of {name!r}", "finite", "NaN or infinity")
        if rank is not None:
            own, errors[name] = truncated(name, experts_of(layer, adapter_name), own, rank)
        A = next(tensor for key, tensor in own.items() if key.startswith(("lora_A", "lora_embedding_A")))
        ranks[name] = len(A) // experts_of(layer, adapter_name)
        tensors |= {f"base_model.model.{name}.{key}": tensor for key, tensor in own.items()}
    tensors = {
        key: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for key, tensor in tensors.items()
    }
    base = peft_model.get_base_model()
    config = peft_model.peft_config[adapter_name]
    own = type(config) is LoraConfig and rank is None
    ranks = own_patterns(config, has_residual_start(peft_model)) if own else rank_patterns(ranks)
    config = lora_config(config, layers, *ranks, {
        "base_model_name_or_path": base_model_name or config.base_model_name_or_path,
        "task_type": task_type or config.task_type or task_of(base),
    })  # fmt: skip
    kind = {"base_model_class": type(base).__name__, "parent_library": type(base).__module__}
    with whole_files(folder) as part:
        save_file(tensors, Path(part, TENSORS), metadata={"format": "pt"})
        config.save_pretrained(part, auto_mapping_dict=None if config.task_type else kind)
    return errors


def has_adapter(layer, adapter_name):
    """Whether a layer has an adapter."""
    return any(adapter_name in getattr(layer, names) for names in layer.adapter_layer_names)


def experts_of(layer, adapter_name):
    """The number of experts in what a layer adapts; 1 for a matrix."""
    if isinstance(layer, LoraLayer):
        return getattr(layer, "num_experts", 1)
    return len(layer.deltas[adapter_name]) if isinstance(layer.deltas[adapter_name], Experts) else 1


def lora_tensors(peft_model, name, layer, adapter_name, state):
    """A layer's adapter as LoRA's tensors of scale 1, by their names in files."""
    if name.endswith("in_proj") and isinstance(peft_model.get_base_model().get_submodule(name[:-8]), LayeredAttention):
        raise _validation.complain(ValueError, f"the layer {name!r}", "one that LoRA files know", "an in_proj_weight")
    if isinstance(layer, AdaLoraLayer):
        P, e, Q = (whole(getattr(layer, f"lora_{part}")[adapter_name]) for part in "BEA")
        return {
            "lora_A.weight": Q,
            "lora_B.weight": P * e.T * (layer.scaling[adapter_name] / (float(layer.ranknum[adapter_name]) + 1e-5)),
        }
    if not isinstance(layer, LoraLayer):
        return tuner_tensors(layer, adapter_name)
    start = f"base_model.model.{name}.lora_"
    own = {f"lora_{key.removeprefix(start)}": whole(tensor) for key, tensor in state.items() if key.startswith(start)}
    if has_residual_start(peft_model):
        A, B, E = own["lora_A.weight"], own["lora_B.weight"], experts_of(layer, adapter_name)
        A, A0 = (X.reshape(E, -1, X.shape[1]) for X in (A, layer.start_A))
        B, B0 = (X.reshape(len(X), -1, E) for X in (B, layer.start_B))
        own["lora_A.weight"] = torch.cat([A, A0], dim=1).flatten(0, 1)
        own["lora_B.weight"] = torch.cat([B, -B0], dim=1).flatten(1)
    for key in ("lora_B.weight", "lora_B.bias", "lora_embedding_B"):
        if key in own and layer.scaling[adapter_name] != 1:
            own[key] = layer.scaling[adapter_name] * own[key].to(torch.promote_types(own[key].dtype, torch.float32))
    return own


def tuner_tensors(layer, adapter_name):
    """CURLoRA's or tCURLoRA's update as LoRA's tensors: B and A, or side by side those of all experts."""
    delta, base = layer.deltas[adapter_name], layer.get_base_layer()
    if isinstance(delta, Experts):
        factors = [map(whole, expert.lora_factors()) for expert in delta]
        if getattr(base, "is_transposed", False):  # PEFT takes B A of experts whose weights lie in by out as (B A)^T
            factors = [(A.T, B.T) for B, A in factors]
        Bs, As = zip(*factors, strict=True)
        return {"lora_A.weight": torch.cat(As), "lora_B.weight": torch.stack(Bs, dim=2).flatten(1)}
    B, A = map(whole, delta.lora_factors())
    if isinstance(base, torch.nn.Embedding):
        return {"lora_embedding_A": A, "lora_embedding_B": B}
    return {"lora_A.weight": A, "lora_B.weight": B}


def truncated(name, experts, tensors, rank):
    """The best approximation of an update B A by one of a lower rank, its factors balanced, and its relative error."""
    if set(tensors) != {"lora_A.weight", "lora_B.weight"} or experts > 1:
        raise _validation.complain(ValueError, "rank", f"None where an update is more than B A as of {name!r}", rank)
    B, A = tensors["lora_B.weight"].double(), tensors["lora_A.weight"].double()
    QB, TB = torch.linalg.qr(B)
    QA, TA = torch.linalg.qr(A.T)
    U, s, Vh = torch.linalg.svd(TB @ TA.T, full_matrices=False)
    root = s[:rank].sqrt()
    kept = {"lora_B.weight": QB @ U[:, :rank] * root, "lora_A.weight": root[:, None] * (Vh[:rank] @ QA.T)}
    error = float((s[rank:].norm() / s.norm()).nan_to_num())
    return {key: X.to(torch.promote_types(tensors[key].dtype, torch.float32)) for key, X in kept.items()}, error


def own_patterns(config, residual):
    """The rank and the ranks that differ, of a LoRA adapter as configured; twice as many with a residual start."""
    times = 2 if residual else 1
    return times * config.r, {key: times * r for key, r in config.rank_pattern.items()}


def rank_patterns(ranks):
    """The largest rank, and the ranks that differ by patterns for PEFT."""
    largest = max(ranks.values())
    return largest, {f"^{re.escape(name)}": r for name, r in ranks.items() if r != largest}


def lora_config(config, layers, rank, pattern, named):
    """What PEFT's ``LoraConfig`` of an exported adapter is: all scales 1, the rest as in its own configuration."""
    same = {field.name: getattr(config, field.name) for field in dataclasses.fields(LoraConfig)
            if field.init and hasattr(config, field.name)}  # fmt: skip
    same["bias"] = same["bias"] if same["bias"] in ("none", "all") else "lora_only"
    same["fan_in_fan_out"] = all(isinstance(layer.get_base_layer(), Conv1D) for layer in layers.values())
    return LoraConfig(**same | named | {
        "r": rank, "lora_alpha": rank, "rank_pattern": pattern, "alpha_pattern": pattern, "use_rslora": False,
        "init_lora_weights": True, "inference_mode": True, "lora_dropout": 0.0,
    })  # fmt: skip


def task_of(base):
    """PEFT's name for what a language model of transformers is for, or None."""
    kind = type(base).__name__
    if kind.endswith(("ForCausalLM", "LMHeadModel")):
        return "CAUSAL_LM"
    encoder_decoder = getattr(getattr(base, "config", None), "is_encoder_decoder", False)
    return "SEQ_2_SEQ_LM" if encoder_decoder and kind.endswith("ForConditionalGeneration") else None
