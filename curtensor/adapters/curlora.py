"""CURLoRA as one of PEFT's methods: importing this makes it known there."""

from dataclasses import dataclass

from torch import nn

from curtensor import _validation
from curtensor.adapters.deltas import CURLoRA
from curtensor.adapters.tuner import CURConfig, CURTuner, Experts, register


@dataclass
class CURLoRAConfig(CURConfig):
    """Options of CURLoRA in PEFT: ``scale C U R`` beside each weight, U (r, r) trained.

    Parameters
    ----------
    r : int, default 16
        Number of columns and of rows, 1 to min(m, n) of each weight; "all-linear" clips it.
    scale : float, default 1.0
        Factor of the update, above 0.
    basis : "orthonormal" or "raw"
        Orthonormal bases of the chosen columns and rows, or themselves, as published [1]_.
    method : str or callable, default "osinsky"
        Rule for columns and rows: one of `curtensor.selection.SELECTION_RULES`, or the published "inverse_norm", or a
        function. What it chooses that depends on the others is replaced.
    dropout : float, default 0.0
        Probability, below 1, with which an input of the update is zeroed in training.
    seed : int, default 0
        Seed of the choice. Each layer has its own stream, by its name.
    target_modules, target_parameters, exclude_modules, layers_to_transform, layers_pattern, rank_pattern
        As in PEFT's configs. Target modules are ``torch.nn.Linear``, ``torch.nn.Embedding`` and transformers'
        ``Conv1D``.
    bias, modules_to_save, init_weights
        As in PEFT's configs; `bias` is "none", "all" or "curlora_only".

    References
    ----------
    .. [1] M. Fawi, "CURLoRA: Stable LLM continual fine-tuning and catastrophic forgetting mitigation", 2024,
       arXiv:2408.14572.

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
    peft_name = "CURLORA"

    def __post_init__(self):
        super().__post_init__()
        self.r = _validation.integer(self.r, "r", 1, 10**6)
        for key, rank in self.rank_pattern.items():
            _validation.integer(rank, f"rank_pattern[{key!r}]", 1, 10**6)


class CURLoRAModel(CURTuner):
    """A model with CURLoRA layers, as PEFT makes it out of a `CURLoRAConfig`."""

    prefix = "curlora_"

    def delta(self, config, layer, number):
        """An update of a matrix, to be chosen or loaded."""
        names, weights = layer.matrices()
        name, weight = names[number], weights[number]
        rank = self.rank_of(config, layer.key, weight.shape)
        rank = _validation.integer(rank, f"rank of {name!r}", 1, min(weight.shape))
        delta = CURLoRA([weight], rank, basis=config.basis, scale=config.scale, dropout=nn.Dropout(config.dropout))
        delta.places = ((layer, number),)
        return delta

    def units(self, adapter_name):
        """What is chosen for an adapter: each matrix's update."""
        deltas = [layer.deltas[adapter_name] for layer in self.layers_of(adapter_name)]
        return [unit for delta in deltas for unit in (delta if isinstance(delta, Experts) else [delta])]


register("CURLORA", CURLoRAConfig, CURLoRAModel)
