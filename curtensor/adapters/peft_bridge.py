"""PEFT: its LoRA layers started from chosen rows, and CURLoRA as one of its methods.

Needs the extra ``curtensor[peft]``. Importing this module makes CURLoRA known to PEFT, so that ``get_peft_model`` and
``PeftModel.from_pretrained`` take it.
"""

import warnings
from dataclasses import dataclass, field

import numpy as np
import torch
from peft import LoraConfig, PeftConfig, PeftModel, PeftType
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer, check_adapters_to_merge
from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING, register_peft_method
from torch import nn
from tqdm import tqdm

from curtensor import _validation
from curtensor.adapters.choice import ADAPTER_RULES, adapter_rule
from curtensor.adapters.convert import stream
from curtensor.adapters.deltas import BASES, CURLoRA
from curtensor.adapters.linear import is_conv1d, weight_matrix
from curtensor.adapters.matching import check_layer
from curtensor.adapters.plans import cur_rows, plan_curlora, rank_of


@torch.no_grad()
def initialize_lora_cur_weights(
    peft_model, adapter_name="default", *, method="osinsky", progress=True, rng: _validation.RandomSource = None
):
    """Start the A of PEFT's LoRA layers from rows that a CUR chooses of each weight, and B from zero.

    A becomes an orthonormal basis of the chosen rows, as large as PEFT's random A. The model's outputs are those of
    the base model.

    Parameters
    ----------
    peft_model : peft.PeftModel
        With LoRA adapters on linear layers (or transformers' Conv1D), none of them merged. Changed in place, all of
        it or, where anything is wrong, nothing.
    adapter_name : str, default "default"
        Which of the model's adapters.
    method : str or callable, default "osinsky"
        Rule for the rows: one of `curtensor.selection.SELECTION_RULES`, or "inverse_norm", or a function.
    progress : bool, default True
        Show a progress bar.
    rng : None, int, SeedSequence or Generator, optional
        Source of randomness. Each layer has its own stream, by its name.

    Returns
    -------
    peft_model : peft.PeftModel
        The same object.

    Raises
    ------
    TypeError
        If the model is no ``PeftModel``, the adapter is not LoRA, or an adapted layer is not linear or quantised.
    ValueError
        If there is no such adapter, one is merged, or a weight is not finite or of too low a rank.

    Notes
    -----
    One pass over each weight, and O(n r^2) operations. Only public attributes of PEFT's layers are used, as
    ``peft.initialize_lora_eva_weights`` does with data; the weights alone are looked at here. What PEFT saves is an
    ordinary LoRA adapter on the untouched base model.

    References
    ----------
    .. [1] E. J. Hu and others, "LoRA: Low-rank adaptation of large language models", 2021, arXiv:2106.09685.
    .. [2] A. I. Osinsky, "Close to optimal column approximations with a single SVD", 2023, arXiv:2308.09068.

    Examples
    --------
    >>> import peft
    >>> import torch
    >>> from curtensor.adapters import initialize_lora_cur_weights
    >>> base = torch.nn.Sequential(torch.nn.Linear(20, 30), torch.nn.ReLU(), torch.nn.Linear(30, 2))
    >>> model = peft.get_peft_model(base, peft.LoraConfig(r=4, target_modules=["0"]))
    >>> model = initialize_lora_cur_weights(model, progress=False, rng=0)
    """
    if not isinstance(peft_model, PeftModel):
        raise _validation.complain(TypeError, "peft_model", "a peft.PeftModel", type(peft_model).__name__)
    _validation.one_of(peft_model.peft_config, adapter_name, "adapter_name")
    if not isinstance(peft_model.peft_config[adapter_name], LoraConfig):
        kind = type(peft_model.peft_config[adapter_name]).__name__
        raise _validation.complain(TypeError, f"the adapter {adapter_name!r}", "a LoRA adapter", kind)
    rule = adapter_rule(method)
    progress = _validation.flag(progress, "progress")
    seed = int(_validation.generator(rng).integers(2**63))
    layers = {name: layer for name, layer in peft_model.named_modules()
              if isinstance(layer, LoraLayer) and adapter_name in layer.r}  # fmt: skip
    for name, layer in layers.items():
        check_layer(name, layer.get_base_layer())
        if layer.merged:
            raise _validation.complain(ValueError, f"the adapter of {name!r}", "unmerged", "a merged one")

    chosen = {}
    for name, layer in tqdm(layers.items(), desc="choose rows", disable=not progress):
        weight = weight_matrix(layer.get_base_layer()).detach()
        rank = rank_of(name, layer.r[adapter_name], weight.shape)
        chosen[name] = cur_rows(name, weight, rank, rule, stream(seed, name))
    for name, A in chosen.items():
        start(layers[name], adapter_name, A)
    return peft_model


def start(layer, adapter_name, A):
    """Set A, and B to zero."""
    layer.lora_A[adapter_name].weight.copy_(torch.from_numpy(A))
    layer.lora_B[adapter_name].weight.zero_()


@dataclass
class CURLoRAConfig(PeftConfig):
    """Options of CURLoRA in PEFT: ``scale C U R`` beside each weight, U (r, r) trained.

    Parameters
    ----------
    r : int, default 16
        Number of columns and of rows, 1 to min(m, n) of each weight.
    scale : float, default 1.0
        Factor of the update, above 0.
    basis : "orthonormal" or "raw", default "orthonormal"
        Orthonormal bases of the chosen columns and rows, or themselves.
    method : str, default "osinsky"
        Rule for columns and rows: one of `curtensor.selection.SELECTION_RULES`, or "inverse_norm".
    seed : int, default 0
        Seed of the choice. Each layer has its own stream, by its name.
    target_modules, exclude_modules, layers_to_transform, layers_pattern, bias, modules_to_save
        As in ``peft.LoraConfig``; `bias` is "none", "all" or "curlora_only".
    init_weights : bool, default True
        Start from U = 0. Otherwise U is random: for tests.

    Examples
    --------
    >>> import peft
    >>> import torch
    >>> from curtensor.adapters import CURLoRAConfig
    >>> base = torch.nn.Sequential(torch.nn.Linear(20, 30), torch.nn.ReLU(), torch.nn.Linear(30, 2))
    >>> model = peft.get_peft_model(base, CURLoRAConfig(r=8, target_modules=["0"]))
    >>> model.get_nb_trainable_parameters()[0]
    64
    """

    r: int = 16
    scale: float = 1.0
    basis: str = "orthonormal"
    method: str = "osinsky"
    seed: int = 0
    target_modules: list[str] | str | None = None
    exclude_modules: list[str] | str | None = None
    layers_to_transform: list[int] | int | None = None
    layers_pattern: list[str] | str | None = None
    bias: str = "none"
    modules_to_save: list[str] | None = None
    init_weights: bool = field(default=True)

    def __post_init__(self):
        super().__post_init__()
        self.peft_type = PeftType.CURLORA
        self.r = _validation.integer(self.r, "r", 1, 10**6)
        self.scale = _validation.positive(self.scale, "scale")
        self.basis = _validation.one_of(BASES, self.basis, "basis")
        self.method = _validation.one_of(ADAPTER_RULES, self.method, "method")
        self.seed = _validation.integer(self.seed, "seed", 0, 2**63 - 1)
        self.init_weights = _validation.flag(self.init_weights, "init_weights")
        self.bias = _validation.one_of(("none", "all", "curlora_only"), self.bias, "bias")
        for name in ("target_modules", "exclude_modules"):
            value = getattr(self, name)
            setattr(self, name, set(value) if isinstance(value, list) else value)
        if isinstance(self.target_modules, str) and self.layers_to_transform is not None:
            raise _validation.complain(ValueError, "layers_to_transform", "None where target_modules is a str", "both")
        if self.layers_pattern and self.layers_to_transform is None:
            raise _validation.complain(ValueError, "layers_to_transform", "given with layers_pattern", "None")


class CURLoRALayer(nn.Module, BaseTunerLayer):
    """A frozen linear layer with CURLoRA updates by adapter name.

    As in `AdaptedLinear`, `weight` is the effective one, and `unmerge` brings back the old one bit for bit. Files hold
    U and the indices; C and R are made anew from the base weight when a state is loaded.
    """

    adapter_layer_names = ("curlora_delta",)
    other_param_names = ()

    def __init__(self, base_layer):
        super().__init__()
        self.base_layer = base_layer
        self.curlora_delta = nn.ModuleDict()
        self.merged_adapters = []
        self.register_buffer("unmerged_weight", None, persistent=False)
        self.register_load_state_dict_post_hook(rebuild_bases)

    @property
    def base_weight(self):
        """The weight (m, n), out by in, that the updates are for."""
        layer = self.get_base_layer()
        weight = self.unmerged_weight if self.merged else layer.weight
        return (weight.T if is_conv1d(layer) else weight).detach()

    @property
    def in_features(self):
        """Length of an input row."""
        return self.base_weight.shape[1]

    @property
    def out_features(self):
        """Length of an output row."""
        return self.base_weight.shape[0]

    @property
    def weight(self):
        """The effective weight, in the base layer's own layout and dtype."""
        weight = self.get_base_layer().weight
        for name in self.applied():
            weight = weight + self.get_delta_weight(name).to(weight.dtype)
        return weight

    def applied(self):
        """Names of the adapters that `forward` has to add."""
        if self.disable_adapters or self.merged:
            return []
        return [name for name in self.active_adapters if name in self.curlora_delta]

    def update_layer(self, adapter_name, config, key):
        """Choose columns and rows for a new adapter of the layer named by `key`."""
        rng = stream(config.seed, key)
        options = {"rank": config.r, "scale": config.scale, "basis": config.basis, "method": config.method}
        (delta,) = plan_curlora([key], [self.base_weight], **options)(rng)
        for name in delta.rebuilt:
            basis = getattr(delta, name)
            delattr(delta, name)
            delta.register_buffer(name, basis, persistent=False)
        if not config.init_weights:
            U = stream(config.seed, f"{key}.{adapter_name}").standard_normal(delta.U.shape) / np.sqrt(config.r)
            delta.U = nn.Parameter(torch.from_numpy(U).to(delta.U))
        self.curlora_delta[adapter_name] = delta
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def get_delta_weight(self, adapter_name):
        """One adapter's update, in the base layer's layout."""
        update = self.curlora_delta[adapter_name].matrix()
        return update.T if is_conv1d(self.get_base_layer()) else update

    def forward(self, x, *args, **kwargs):
        """The base layer's output plus the active updates'."""
        if self.disable_adapters and self.merged:
            self.unmerge()
        y = self.base_layer(x, *args, **kwargs)
        for name in self.applied():
            delta = self.curlora_delta[name]
            y = y + delta(x.to(delta.R.dtype)).to(y.dtype)
        return y

    @torch.no_grad()
    def merge(self, safe_merge=False, adapter_names=None):
        """Put updates into the base layer's weight; the old one is kept beside it."""
        weight = self.get_base_layer().weight.detach()
        names = [name for name in check_adapters_to_merge(self, adapter_names) if name in self.curlora_delta]
        updated = weight
        for name in names:
            updated = updated + self.get_delta_weight(name).to(weight.dtype)
        if safe_merge and not torch.isfinite(updated).all():
            raise _validation.complain(ValueError, f"the weight merged with {names}", "finite", "NaN or infinity")
        if names and not self.merged:
            self.unmerged_weight = weight
        self.get_base_layer().weight.data = updated
        self.merged_adapters += names

    def unmerge(self):
        """Bring back the base layer's weight, bit for bit."""
        if not self.merged:
            warnings.warn("Already unmerged. Nothing to do.", stacklevel=2)
            return
        self.get_base_layer().weight.data = self.unmerged_weight
        self.unmerged_weight = None
        self.merged_adapters = []

    def supports_lora_conversion(self, adapter_name="default"):
        """Whether ``peft.convert_to_lora`` can take the layer: yes."""
        return True

    def __repr__(self):
        return "curlora." + super().__repr__()


def rebuild_bases(layer, incompatible_keys):
    """Make C and R anew from the indices that were loaded."""
    for delta in layer.curlora_delta.values():
        columns, rows = delta.columns.cpu().numpy(), delta.rows.cpu().numpy()
        fresh = CURLoRA(layer.base_weight, columns, rows, **delta.options)
        delta.C, delta.R = fresh.C.to(delta.C.dtype), fresh.R.to(delta.R.dtype)


class CURLoRAModel(BaseTuner):
    """A model with CURLoRA layers, as PEFT makes it out of a `CURLoRAConfig`.

    Parameters
    ----------
    model : torch.nn.Module
    peft_config : CURLoRAConfig
    adapter_name : str
    """

    prefix = "curlora_"
    tuner_layer_cls = CURLoRALayer
    target_module_mapping = {
        kind: list(names) for kind, names in TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.items()
    }

    def _create_and_replace(self, peft_config, adapter_name, target, target_name, parent, current_key, **options):
        if isinstance(target, CURLoRALayer):
            target.update_layer(adapter_name, peft_config, current_key)
            return
        check_layer(current_key, target.get_base_layer() if isinstance(target, BaseTunerLayer) else target)
        layer = CURLoRALayer(target)
        layer._active_adapter = adapter_name
        layer.update_layer(adapter_name, peft_config, current_key)
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)
        self._replace_module(parent, target_name, layer, target)


def register():
    """Make CURLoRA known to PEFT, whose `register_peft_method` wants a member of its enum of methods."""
    if "CURLORA" not in PeftType.__members__:
        member = str.__new__(PeftType, "CURLORA")
        member._name_ = member._value_ = "CURLORA"
        PeftType.CURLORA = member
        PeftType._member_names_.append("CURLORA")
        PeftType._member_map_["CURLORA"] = PeftType._value2member_map_["CURLORA"] = member
        register_peft_method(name="curlora", config_cls=CURLoRAConfig, model_cls=CURLoRAModel)


register()
