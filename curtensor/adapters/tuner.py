"""What both tuners have in common in PEFT: options, the layer around a frozen one, the model, and the registration."""

import copy
import hashlib
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import torch
from peft import PeftConfig, PeftType
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.tuners.tuners_utils import (
    BaseTuner,
    BaseTunerLayer,
    _filter_state_dict_by_key_prefixes,
    _get_tuner_state_dict_key_prefixes,
    check_adapters_to_merge,
)
from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING, register_peft_method
from peft.utils.other import get_pattern_key
from torch import nn
from tqdm import tqdm
from transformers.pytorch_utils import Conv1D

from curtensor import _validation
from curtensor.adapters.choice import adapter_rule
from curtensor.adapters.deltas import BASES
from curtensor.adapters.transformer import call_layers, join_names, open_attentions
from curtensor.adapters.weights import lies_in_by_out, of_floats, readable, whole

LAYERS = (nn.Linear, Conv1D, nn.Embedding)


@dataclass
class CURConfig(PeftConfig):
    """The options that CURLoRA and tCURLoRA share."""

    scale: float = 1.0
    basis: str = "orthonormal"
    method: str | Callable = "osinsky"
    dropout: float = 0.0
    seed: int = 0
    target_modules: list[str] | str | None = None
    target_parameters: list[str] | None = None
    exclude_modules: list[str] | str | None = None
    layers_to_transform: list[int] | int | None = None
    layers_pattern: list[str] | str | None = None
    rank_pattern: dict = field(default_factory=dict)
    bias: str = "none"
    modules_to_save: list[str] | None = None
    init_weights: bool = True
    chosen = False  # whether columns and rows are in a file, which is loaded next
    progress = False  # whether to show a bar; no option in files

    def __post_init__(self):
        super().__post_init__()
        self.chosen = self.peft_type == in_files(self.peft_name)
        self.peft_type = PeftType[self.peft_name]
        self.scale = _validation.positive(self.scale, "scale")
        self.basis = _validation.one_of(BASES, self.basis, "basis")
        if not self.chosen:
            adapter_rule(self.method)
        self.seed = _validation.integer(self.seed, "seed", 0, 2**63 - 1)
        self.init_weights = _validation.flag(self.init_weights, "init_weights")
        self.bias = _validation.one_of(("none", "all", f"{self.peft_name.lower()}_only"), self.bias, "bias")
        if self.dropout and not _validation.positive(self.dropout, "dropout") < 1:
            raise _validation.complain(ValueError, "dropout", "below 1", self.dropout)
        if self.target_modules is None and self.target_parameters:
            self.target_modules = []
        for name in ("target_modules", "exclude_modules"):
            value = getattr(self, name)
            setattr(self, name, set(value) if isinstance(value, list) else value)
        if isinstance(self.target_modules, str) and self.layers_to_transform is not None:
            raise _validation.complain(ValueError, "layers_to_transform", "None where target_modules is a str", "both")
        if self.layers_pattern and self.layers_to_transform is None:
            raise _validation.complain(ValueError, "layers_to_transform", "given with layers_pattern", "None")

    def save_pretrained(self, save_directory, **kwargs):
        """Write the options, and what a process must import first."""
        saved = copy.copy(self)
        saved.peft_type = in_files(self.peft_name)
        saved.method = self.method if isinstance(self.method, str) else "a function"
        PeftConfig.save_pretrained(saved, save_directory, **kwargs)


class AdaptedLayer(nn.Module, BaseTunerLayer):
    """A frozen layer, one of `LAYERS`, and updates of its weight by adapter name.

    `unmerge` brings back the weight as it was, the same object.
    """

    adapter_layer_names = ("curlora_delta",)
    other_param_names = ()

    def __init__(self, base_layer, key, adapter_name, parameter_name="weight"):
        super().__init__()
        self.base_layer, self.key, self.parameter_name = base_layer, key, parameter_name
        self.merged_adapters = []
        self._active_adapter = adapter_name
        self.curlora_delta = nn.ModuleDict()
        self.register_buffer("unmerged_weight", None, persistent=False)

    @property
    def deltas(self):
        """The updates by adapter name."""
        return self.curlora_delta

    @property
    def base_weight(self):
        """The weight as it was before a merge."""
        return self.unmerged_weight if self.merged else getattr(self.get_base_layer(), self.parameter_name)

    def matrices(self):
        """Names of the matrices (m, n), out by in, that the updates are for, and themselves: one, or each expert's."""
        weight = whole(self.base_weight)
        if weight.ndim == 3:
            return [f"{self.key}.{number}" for number in range(len(weight))], list(weight)
        return [self.key], [weight.T if lies_in_by_out(self.get_base_layer()) else weight]

    def update_layer(self, adapter_name, deltas, inference_mode):
        """A new adapter: an update of each matrix."""
        self.out_features, self.in_features = self.matrices()[1][0].shape
        self.deltas[adapter_name] = Experts(deltas) if self.base_weight.ndim == 3 else deltas[0]
        self.set_adapter(self.active_adapters, inference_mode=inference_mode)

    def _move_adapter_to_device_of_base_layer(self, adapter_name, device=None):
        device = self.base_weight.device if device is None else device
        delta = self.deltas[adapter_name] if adapter_name in self.deltas else nn.Identity()
        if not any(parameter.is_meta for parameter in delta.parameters()):
            delta.to(device)  # what was trained keeps its digits

    def applied(self):
        """Names of the adapters that `forward` has to add."""
        if self.disable_adapters or self.merged:
            return []
        return [name for name in self.active_adapters if name in self.deltas]

    def get_delta_weight(self, adapter):
        """One adapter's update, in the base layer's layout and dtype."""
        update = self.deltas[adapter].matrix().to(self.base_weight.dtype)
        return update.T if lies_in_by_out(self.get_base_layer()) else update

    def forward(self, x, *args, **kwargs):
        """The base layer's output plus the active updates'."""
        if self.disable_adapters and self.merged:
            self.unmerge()
        y, scale = self.base_layer(x, *args, **kwargs), self._get_embed_scale()
        for name in self.applied():
            update = self.deltas[name](x)
            y = y + (update if scale is None else scale * update).to(y.dtype)
        return y

    @torch.no_grad()
    def merge(self, safe_merge=False, adapter_names=None):
        """Put updates into the base layer's weight, which becomes another parameter; the old one is kept."""
        names = [name for name in check_adapters_to_merge(self, adapter_names) if name in self.deltas]
        weight = updated = getattr(self.get_base_layer(), self.parameter_name)
        for name in names:
            updated = updated + self.get_delta_weight(name)
        if safe_merge and not torch.isfinite(updated).all():
            broken = f"NaNs detected in the merged weights. The adapter {', '.join(names)} seems to be broken"  # PEFT's
            raise ValueError(f"{broken}: the merged weight of {self.key!r} must be finite, got NaN or infinity")
        if names:
            if not self.merged:
                self._buffers["unmerged_weight"] = weight  # set as an attribute, a parameter would be in files
            self.merged_adapters = self.merged_adapters + names
            setattr(self.get_base_layer(), self.parameter_name, nn.Parameter(updated, weight.requires_grad))

    def unmerge(self):
        """Bring back the base layer's weight, bit for bit."""
        if not self.merged:
            warnings.warn("Already unmerged. Nothing to do.", stacklevel=2)
            return
        weight, layer = self.unmerged_weight, self.get_base_layer()
        if not isinstance(weight, nn.Parameter):  # it was moved meanwhile
            weight = nn.Parameter(weight, getattr(layer, self.parameter_name).requires_grad)
        setattr(layer, self.parameter_name, weight)
        self.unmerged_weight, self.merged_adapters = None, []

    def supports_lora_conversion(self, adapter_name="default"):
        """Whether ``peft.convert_to_lora`` can take the layer: yes."""
        return True


class AdaptedParameter(AdaptedLayer):
    """A module with updates of a parameter: a matrix, or one for each of some fused experts.

    PEFT nests such layers, one for each parameter of a module.
    """

    def forward(self, *args, **kwargs):
        """The base layer's output with the updated parameter."""
        if self.disable_adapters and self.merged:
            self.unmerge()
        names = self.applied()
        if not names:
            return self.base_layer(*args, **kwargs)
        weight = self.base_weight + sum(self.get_delta_weight(name) for name in names)
        path, base = self.parameter_name, self.base_layer
        while base is not self.get_base_layer():
            path, base = f"base_layer.{path}", base.base_layer
        return torch.func.functional_call(self.base_layer, {path: weight}, args, kwargs)

    def unload_and_optionally_merge_module(self, merge, safe_merge, adapter_names):
        """The base module, with the updates of all its parameters or without."""
        layer = self
        while isinstance(layer, AdaptedParameter):
            if merge:
                layer.merge(safe_merge=safe_merge, adapter_names=adapter_names)
            layer = layer.base_layer
        return layer


AdaptedParameter.__name__ = "ParamWrapper"  # by which PEFT knows such layers


class Experts(nn.ModuleList):
    """Updates of several matrices in one parameter."""

    def matrix(self):
        """The updates (E, m, n)."""
        return torch.stack([delta.matrix() for delta in self])

    def parameters(self, recurse=True):
        """What the updates ask PEFT to train."""
        return (parameter for delta in self for parameter in delta.parameters())


class CURTuner(BaseTuner):
    """A model with adapted layers, all of them or, where anything is wrong with a new adapter, as it was before.

    A subclass makes the `delta` of a matrix, and lists what is chosen for an adapter, its `units`.
    """

    tuner_layer_cls = AdaptedLayer
    target_module_mapping = {
        kind: list(names) for kind, names in TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.items()
    }

    def inject_adapter(self, model, adapter_name, *args, low_cpu_mem_usage=False, **kwargs):
        """Wrap the layers, and choose their columns and rows, unless a file with these is to be loaded."""
        config = self.peft_config[adapter_name]
        self.clipped = str(config.target_modules).lower() == "all-linear"
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        try:
            self.wrap(model, adapter_name, *args, low_cpu_mem_usage=low_cpu_mem_usage, **kwargs)
            if not (config.chosen or low_cpu_mem_usage):
                self.choose(adapter_name, config)
        except Exception:
            if len(self.peft_config) == 1:
                self.unload()
            else:
                self.delete_adapter(adapter_name)
            for parameter in trained:
                parameter.requires_grad_(True)
            raise

    def wrap(self, model, adapter_name, *args, **kwargs):
        """Wrap the layers, with updates that are to be chosen or loaded."""
        config = self.peft_config[adapter_name]
        config.target_modules = open_attentions(model, config.target_modules)
        BaseTuner.inject_adapter(self, model, adapter_name, *args, **kwargs)
        join_names(model)
        call_layers(model)

    def choose(self, adapter_name, config):
        """Choose columns and rows by each unit's own random stream, so that no choice depends on another."""
        rule = adapter_rule(config.method)
        for unit in tqdm(self.units(adapter_name), desc="choose", disable=not config.progress):
            names, weights = unit.sources()
            for name, weight in zip(names, weights, strict=True):
                readable(name, weight)
            unit.choose(names, weights, rule, stream(config.seed, names[0]))
            if not config.init_weights:
                rng = stream(config.seed, f"{names[0]} {adapter_name}")
                for p in unit.parameters():
                    p.data.copy_(torch.from_numpy(rng.standard_normal(p.shape) / np.sqrt(p.shape[0])))

    def layers_of(self, adapter_name):
        """The layers that have an adapter."""
        return [layer for layer in self.model.modules()
                if isinstance(layer, AdaptedLayer) and adapter_name in layer.deltas]  # fmt: skip

    def rank_of(self, config, key, shape):
        """The rank of a layer: what the pattern says, or `r`."""
        rank = config.rank_pattern.get(get_pattern_key(config.rank_pattern.keys(), key), config.r)
        if self.clipped and isinstance(rank, int) and rank > min(shape):
            warnings.warn(f"the rank of {key!r} is {min(shape)}, the most that its shape {shape} has", stacklevel=2)
            rank = config.rank_pattern[f"^{re.escape(key)}"] = min(shape)
        return rank

    def _create_and_replace(
        self, peft_config, adapter_name, target, target_name, parent, current_key, *, parameter_name=None
    ):
        layer = target
        if parameter_name is not None:
            if not isinstance(target, AdaptedParameter) or target.parameter_name != parameter_name:
                layer = AdaptedParameter(target, current_key, adapter_name, parameter_name)
        elif not isinstance(target, AdaptedLayer):
            base = target.get_base_layer() if isinstance(target, BaseTunerLayer) else target
            if not isinstance(base, LAYERS):
                text = f"one of {', '.join(kind.__name__ for kind in LAYERS)}"
                raise _validation.complain(TypeError, f"the module {current_key!r}", text, type(base).__name__)
            layer = AdaptedLayer(target, current_key, adapter_name)
        of_floats(current_key, layer.base_weight)
        deltas = [self.delta(peft_config, layer, number) for number in range(len(layer.matrices()[0]))]
        layer.update_layer(adapter_name, deltas, peft_config.inference_mode)
        if layer is not target:
            if adapter_name not in self.active_adapters:
                layer.requires_grad_(False)
            self._replace_module(parent, target_name, layer, target)

    def _replace_module(self, parent, child_name, new_module, child):
        if isinstance(new_module, AdaptedLayer):
            super()._replace_module(parent, child_name, new_module, child)
        else:
            setattr(parent, child_name, new_module)

    def add_weighted_adapter(self, adapters, weights, adapter_name, combination_type="linear"):
        """Add an adapter whose update is the sum of the others' times the weights.

        ValueError where names or numbers do not fit, the adapters' columns and rows differ, or their updates are not
        linear in what is trained (form "mode_factors"). No `combination_type` but "linear" is possible.
        """
        _validation.one_of(("linear",), combination_type, "combination_type")
        for name in adapters:
            _validation.one_of(self.peft_config, name, "each of adapters")
        if adapter_name in self.peft_config:
            raise _validation.complain(ValueError, "adapter_name", "a new name", repr(adapter_name))
        if len(weights) != len(adapters) or not adapters:
            raise _validation.complain(ValueError, "weights", f"{len(adapters)} numbers", len(weights))
        members = list(zip(*(self.units(name) for name in adapters), strict=False))
        for first, *others in members:
            if not first.linear or any(not first.has_bases_of(other) for other in others):
                what = "updates with the same columns and rows, linear in what is trained"
                raise _validation.complain(ValueError, "adapters", what, f"others in {first.sources()[0][0]!r}")
        config = copy.deepcopy(self.peft_config[adapters[0]])
        config.chosen = True
        self.peft_config[adapter_name] = config
        self.inject_adapter(self.model, adapter_name)
        config.chosen = False
        for unit, own in zip(self.units(adapter_name), members, strict=True):
            unit.load_state_dict(own[0].state_dict())
            for p, *parts in zip(unit.parameters(), *(other.parameters() for other in own), strict=True):
                p.data = sum(weight * part.data for weight, part in zip(weights, parts, strict=True))

    def _check_target_module_compatiblity(self, peft_config, model, target_name):
        alike = SimpleNamespace(peft_type="LORA")  # Mamba's kernels take out_proj.weight past the layer
        super()._check_target_module_compatiblity(alike, model, target_name)

    @classmethod
    def _remap_adapter_state_dict_for_load(cls, model, config, adapter_name, state_dict):
        found = super()._remap_adapter_state_dict_for_load(model, config, adapter_name, state_dict)
        prefixes = _get_tuner_state_dict_key_prefixes(model, adapter_name)
        for key, tensor in _filter_state_dict_by_key_prefixes(model.state_dict(), prefixes).items():
            if key not in found:
                raise _validation.complain(ValueError, "the file", f"one with {key}", "none")
            if found[key].shape != tensor.shape:
                raise _validation.complain(ValueError, key, f"of shape {tuple(tensor.shape)}", tuple(found[key].shape))
            if found[key].is_floating_point() != tensor.is_floating_point():
                raise _validation.complain(ValueError, key, f"of dtype {tensor.dtype}", found[key].dtype)
            if not torch.isfinite(found[key]).all():
                raise _validation.complain(ValueError, key, "finite", "NaN or infinity")
            if not (tensor.is_floating_point() or key.endswith("fingerprint")) and (found[key] < 0).any():
                raise _validation.complain(ValueError, key, "indices of at least 0", int(found[key].min()))
        return found


def stream(seed, name):
    """A layer's own random stream, by its name."""
    words = np.frombuffer(hashlib.sha256(name.encode()).digest(), dtype=np.uint32)
    return np.random.default_rng([seed, *words.tolist()])


def in_files(name):
    """What files call a method: PEFT alone does not know it, and says so with this in its error."""
    return f"{name}: import curtensor.adapters"


def register(name, config_cls, model_cls):
    """Make a method known to PEFT, whose `register_peft_method` wants a member of its enum of methods."""
    if name in PeftType.__members__:
        return
    member = str.__new__(PeftType, name)
    member._name_ = member._value_ = name
    setattr(PeftType, name, member)
    PeftType._member_names_.append(name)
    PeftType._member_map_[name] = PeftType._value2member_map_[name] = member
    register_peft_method(name=name.lower(), config_cls=config_cls, model_cls=model_cls)
    PEFT_TYPE_TO_CONFIG_MAPPING[in_files(name)] = config_cls
