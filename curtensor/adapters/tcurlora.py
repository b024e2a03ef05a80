"""tCURLoRA as one of PEFT's methods: importing this makes it known there."""

import contextlib
import re
from dataclasses import dataclass

from peft.tuners.tuners_utils import BaseTuner
from peft.utils.integrations import init_empty_weights
from torch import nn

from curtensor import _validation
from curtensor.adapters.deltas import FORMS, TCURLoRA
from curtensor.adapters.tuner import CURConfig, CURTuner, Experts, register


@dataclass
class TCURLoRAConfig(CURConfig):
    """Options of tCURLoRA in PEFT: an update in tensor form for groups of weights of one shape, which share its core.

    The L weights (m, n) of a group are stacked to a tensor (m, n, L). The update is S x_1 C x_2 R^T x_3 E, where C are
    columns of any of the weights, R rows, E (L, r_3) fibres across the layers, and S is trained.

    Parameters
    ----------
    r : int or three ints, default 16
        (r_1, r_2, r_3), at most (m, n, L); an int k, which "all-linear" clips, stands for (k, k, L).
    form : "shared_core", "tubal" or "mode_factors"
        As above; by the t-product C * U * R, where `r` is an int; or with the weights' own core and ``I + B_n A_n`` in
        each mode, B_n A_n trained.
    factor_rank : int, default 4
        Rank of B_n A_n; for "mode_factors" only.
    groups : list of lists of str, optional
        Names of the layers that are a group, all targets in one of them. By default layers of one shape whose names
        differ in numbers alone: all query projections of a transformer, say. Experts in a parameter are of one group.
    scale, basis, method, dropout, seed, target_modules, target_parameters, exclude_modules, layers_to_transform
        As in `CURLoRAConfig`.
    layers_pattern, rank_pattern, bias, modules_to_save, init_weights
        As there; `bias` is "none", "all" or "tcurlora_only".

    References
    ----------
    .. [1] Y. He, H. Cheng, Q. Zhu, Z. Cai, Y. Yu, "tCURLoRA: Tensor CUR decomposition based low-rank parameter
       adaptation and its application in medical image segmentation", 2025, arXiv:2501.02227.

    Examples
    --------
    >>> import peft
    >>> import torch
    >>> from curtensor.adapters import TCURLoRAConfig
    >>> base = torch.nn.Sequential(*(torch.nn.Linear(20, 20) for _ in range(3)))
    >>> model = peft.get_peft_model(base, TCURLoRAConfig(r=[4, 5, 2], target_modules=["0", "1", "2"]))
    >>> model.get_nb_trainable_parameters()[0]
    40
    """

    r: int | list[int] = 16
    form: str = "shared_core"
    factor_rank: int = 4
    groups: list[list[str]] | None = None
    peft_name = "TCURLORA"

    def __post_init__(self):
        super().__post_init__()
        self.form = _validation.one_of(FORMS, self.form, "form")
        self.factor_rank = _validation.integer(self.factor_rank, "factor_rank", 1, 10**6)
        self.r = checked_ranks(self.r, "r", self.form)
        self.rank_pattern = {
            key: checked_ranks(r, f"rank_pattern[{key!r}]", self.form) for key, r in self.rank_pattern.items()
        }


class TCURLoRAModel(CURTuner):
    """A model with tCURLoRA layers, by PEFT out of a `TCURLoRAConfig`; it holds each group's core and bases."""

    uses_shared_state = True
    prefix = "tcurlora_"

    def inject_adapter(self, model, adapter_name, *args, **kwargs):
        """Wrap the layers and choose; a new adapter leaves it as it is whether the others' cores are trained."""
        if not hasattr(self, "tcurlora_groups"):
            self.tcurlora_groups = nn.ModuleDict()
        trained = [(core, core.requires_grad) for core in self.tcurlora_groups.parameters()]
        super().inject_adapter(model, adapter_name, *args, **kwargs)
        for core, requires_grad in trained:
            core.requires_grad_(requires_grad)

    def wrap(self, model, adapter_name, *args, low_cpu_mem_usage=False, **kwargs):
        """Wrap the layers, and make the groups that they are of."""
        super().wrap(model, adapter_name, *args, low_cpu_mem_usage=low_cpu_mem_usage, **kwargs)
        config = self.peft_config[adapter_name]
        groups = nn.ModuleList()
        for r, names, weights, places in self.grouped(config, adapter_name):
            size = ranks_of(names[0], r, (*weights[0].shape, len(weights)))
            with init_empty_weights() if low_cpu_mem_usage else contextlib.nullcontext():
                group = FORMS[config.form](weights, size, basis=config.basis, factor_rank=config.factor_rank)
            group.places = places
            for number, (layer, place) in enumerate(places):
                delta = layer.deltas[adapter_name]
                delta = delta[place] if isinstance(delta, Experts) else delta
                delta.shared, delta.layer = (group,), number
            groups.append(group)
        groups.requires_grad_(adapter_name in self.active_adapters and not config.inference_mode)
        self.tcurlora_groups[adapter_name] = groups

    def grouped(self, config, adapter_name):
        """Ranks of each group, and its matrices' names, themselves and their places."""
        listed = None if config.groups is None else {name: i for i, own in enumerate(config.groups) for name in own}
        groups = {}
        for layer in self.layers_of(adapter_name):
            r = self.rank_of(config, layer.key, layer.matrices()[1][0].shape)
            for place, (name, weight) in enumerate(zip(*layer.matrices(), strict=True)):
                if listed is not None and name not in listed:
                    raise _validation.complain(ValueError, "groups", f"lists of all targets, {name!r} too", "others")
                kind = (tuple(weight.shape), weight.dtype, weight.device)
                key = (without_numbers(name), kind, str(r)) if listed is None else listed[name]
                members = groups.setdefault(key, [])
                members.append((kind, r, name, weight, (layer, place)))
                if kind != members[0][0]:
                    text = f"of shape, dtype and device {members[0][0]} as that of {members[0][2]!r} in its group"
                    raise _validation.complain(ValueError, f"the weight of {name!r}", text, kind)
        for members in groups.values():
            _, ranks, *parts = zip(*members, strict=True)
            yield ranks[0], *parts

    def delta(self, config, layer, number):
        """A matrix's share of a group that is made later."""
        return TCURLoRA(scale=config.scale, dropout=nn.Dropout(config.dropout))

    def units(self, adapter_name):
        """What is chosen for an adapter: each group."""
        return self.tcurlora_groups[adapter_name]

    def delete_adapter(self, adapter_name):
        """Delete an adapter, its groups too."""
        super().delete_adapter(adapter_name)
        if adapter_name in self.tcurlora_groups:
            del self.tcurlora_groups[adapter_name]

    def _cast_adapter_dtype(self, adapter_name, autocast_adapter_dtype=True):
        super()._cast_adapter_dtype(adapter_name, autocast_adapter_dtype)
        for parameter in self.tcurlora_groups[adapter_name].parameters():
            if autocast_adapter_dtype and parameter.dtype.itemsize < 4:
                parameter.data = parameter.data.float()

    @classmethod
    def _remove_adapter_name_from_key(cls, key, adapter_name):
        start, own, rest = key.partition(f"tcurlora_groups.{adapter_name}.")
        return f"{start}tcurlora_groups.{rest}" if own else BaseTuner._remove_adapter_name_from_key(key, adapter_name)


def checked_ranks(r, name, form):
    """An int, or three of them, but for the t-product."""
    if not isinstance(r, (list, tuple)):
        return _validation.integer(r, name, 1, 10**6)
    if len(r) != 3 or form == "tubal":
        text = "an int" if form == "tubal" else "an int or three ints"
        raise _validation.complain(ValueError, name, text, _validation.describe(r))
    return [_validation.integer(own, name, 1, 10**6) for own in r]


def ranks_of(name, r, shape):
    """(r_1, r_2, r_3), each at most the length of its mode."""
    what = f"ranks of the group of {name!r}"
    own = r if isinstance(r, list) else (_validation.integer(r, what, 1, min(shape[:2])), r, shape[2])
    return [_validation.integer(k, f"{what}: r_{mode}", 1, size)
            for mode, (k, size) in enumerate(zip(own, shape, strict=True), 1)]  # fmt: skip


def without_numbers(name):
    """A module's name with its numbers replaced by stars."""
    return re.sub(r"(?<![^.])\d+(?![^.])", "*", name)


register("TCURLORA", TCURLoRAConfig, TCURLoRAModel)
