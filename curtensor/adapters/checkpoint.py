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
from curtensor.adapters.convert import adapted, all_or_nothing
from curtensor.adapters.initialise import freeze_ranks, has_residual_start
from curtensor.adapters.transformer import LayeredAttention, call_layers, join_names, open_attentions
from curtensor.adapters.tuner import Experts
from curtensor.adapters.weights import whole

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"


def save_adapter(model, folder):
    """Write a model's adapters to a folder as PEFT does, each file whole or not at all, whatever others write there.

    Parameters
    ----------
    model : peft.PeftModel
        With adapters, merged or not; it may be within torch.compile's or DDP's wrapper, or sharded by FSDP2: then every
        process must call this.
    folder : str or path
        Made if it does not exist. The files of PEFT's ``save_pretrained`` in it are replaced.

    Raises
    ------
    TypeError, ValueError
        If the model is no ``PeftModel``; if it was started with ``init="cur_residual"``, which `export_lora` writes.

    Examples
    --------
    >>> import tempfile
    >>> from torch import nn
    >>> from curtensor.adapters import convert_to_lora, load_adapter, save_adapter
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_adapter(convert_to_lora(nn.Sequential(nn.Linear(9, 9)), ["0"]), folder)
    ...     model = load_adapter(nn.Sequential(nn.Linear(9, 9)), folder)
    """
    peft_model, _ = adapted(model)
    with whole_files(folder) as part:
        peft_model.save_pretrained(part, state_dict=gathered_state(peft_model))


def load_adapter(model, folder, *, adapter_name="default", is_trainable=True):
    """Put the adapter which `save_adapter`, `export_lora` or PEFT wrote into a model, and return PEFT's model.

    Never unpickles, never asks a network, and leaves torch's global random state alone.

    Parameters
    ----------
    model : torch.nn.Module
        The base model as it was when the adapter was made, without adapters. Changed in place, all or nothing.
    folder : str or path
        Where ``adapter_config.json`` and ``adapter_model.safetensors`` are.
    adapter_name : str, default "default"
        What PEFT is to call it.
    is_trainable : bool, default True
        Whether it, and the modules trained whole, are to be trained further.

    Raises
    ------
    TypeError, FileNotFoundError, ValueError
        If the model is no ``torch.nn.Module``, a file is not there or damaged, the model has adapters already, a layer
        is not there or has another shape, or CURLoRA or tCURLoRA was made for another base.
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


def export_lora(model, folder, *, adapter_name="default", base_model_name=None, task_type=None):
    """Write an adapter of any kind as LoRA for the untouched base, in the files that PEFT and vLLM read.

    CURLoRA is (scale C U) R, tCURLoRA (scale C M_l) R, AdaLoRA P diag(e) Q, and a start with ``init="cur_residual"``
    [B, -B_0] [A; A_0], of rank 2 r: no decomposition. Scales are in B, for readers that know one scale for all layers;
    modules trained whole and biases are in the file as PEFT writes them.

    Parameters
    ----------
    model, folder
        As for `save_adapter`; what is refused, too, and a number that is not finite, or an ``in_proj_weight``.
    adapter_name : str, default "default"
        Which of the model's adapters.
    base_model_name : str, optional
        What to write as the base model's name; by default what PEFT knows.
    task_type : str, optional
        PEFT's "CAUSAL_LM", "SEQ_CLS", ...; by default the adapter's own, or what the class of the model says.

    Returns
    -------
    ranks : dict of str to int
        Of each layer.
    """
    peft_model, layers = adapted(model)
    config = peft_model.peft_config[_validation.one_of(peft_model.peft_config, adapter_name, "adapter_name")]
    layers = {name: layer for name, layer in layers.items()
              if any(adapter_name in getattr(layer, names) for names in layer.adapter_layer_names)}  # fmt: skip
    state = get_peft_model_state_dict(peft_model, gathered_state(peft_model), adapter_name)
    tensors = {key: tensor for key, tensor in state.items() if f".{peft_model.base_model.prefix}" not in key}
    ranks = {}
    for name, layer in layers.items():
        own = lora_tensors(peft_model, name, layer, adapter_name, state)
        if not all(torch.isfinite(tensor).all() for tensor in own.values()):
            raise _validation.complain(ValueError, f"the update of {name!r}", "finite", "NaN or infinity")
        A = next(tensor for key, tensor in own.items() if key.startswith(("lora_A", "lora_embedding_A")))
        ranks[name] = len(A) // experts_of(layer, adapter_name)
        tensors |= {f"base_model.model.{name}.{key}": tensor for key, tensor in own.items()}
    base = peft_model.get_base_model()
    kind = {"base_model_class": type(base).__name__, "parent_library": type(base).__module__}
    config = lora_config(config, layers, ranks, {
        "base_model_name_or_path": base_model_name or config.base_model_name_or_path,
        "task_type": task_type or config.task_type or task_of(base),
    })  # fmt: skip
    with whole_files(folder) as part:
        whole_tensors = {key: tensor.detach().cpu().clone().contiguous() for key, tensor in tensors.items()}
        save_file(whole_tensors, Path(part, TENSORS), metadata={"format": "pt"})
        config.save_pretrained(part, auto_mapping_dict=None if config.task_type else kind)
    return ranks


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


def lora_config(config, layers, ranks, named):
    """What PEFT's ``LoraConfig`` of an exported adapter is: all scales 1, the rest as in its own configuration."""
    same = {field.name: getattr(config, field.name) for field in dataclasses.fields(LoraConfig)
            if field.init and hasattr(config, field.name)}  # fmt: skip
    same["bias"] = same["bias"] if same["bias"] in ("none", "all") else "lora_only"
    same["fan_in_fan_out"] = all(isinstance(layer.get_base_layer(), Conv1D) for layer in layers.values())
    largest = max(ranks.values())
    pattern = {f"^{re.escape(peft_name(name, layers[name]))}": r for name, r in ranks.items() if r != largest}
    return LoraConfig(**same | named | {
        "r": largest, "lora_alpha": largest, "rank_pattern": pattern, "alpha_pattern": pattern, "use_rslora": False,
        "init_lora_weights": True, "inference_mode": True, "lora_dropout": 0.0,
    })  # fmt: skip


def peft_name(name, layer):
    """What PEFT calls a layer where it asks for its rank: of fused experts, the parameter."""
    fused = type(layer).__name__ == "ParamWrapper"
    return f"{name.replace('.base_layer', '')}.{layer.parameter_name}" if fused else name


def task_of(base):
    """PEFT's name for what a language model of transformers is for, or None."""
    kind = type(base).__name__
    if kind.endswith(("ForCausalLM", "LMHeadModel")):
        return "CAUSAL_LM"
    encoder_decoder = getattr(getattr(base, "config", None), "is_encoder_decoder", False)
    return "SEQ_2_SEQ_LM" if encoder_decoder and kind.endswith("ForConditionalGeneration") else None
