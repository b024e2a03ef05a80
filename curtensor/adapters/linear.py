"""The one layer that every adapter is: a frozen linear layer plus a delta."""

import torch
from torch import nn

from curtensor import _validation


def is_conv1d(layer):
    """Whether this is transformers' ``Conv1D``, whose weight lies in by out."""
    return any(
        (kind.__module__, kind.__name__) == ("transformers.pytorch_utils", "Conv1D") for kind in type(layer).__mro__
    )


def weight_matrix(layer):
    """A layer's weight as (m, n), out by in."""
    return layer.weight.T if is_conv1d(layer) else layer.weight


class AdaptedLinear(nn.Module):
    """A frozen linear layer and an update of its weight: ``forward(x) = base_layer(x) + delta(x)``.

    `weight` is the effective weight, base plus update, so that code which reads a layer's weight and never calls the
    layer (``nn.TransformerEncoderLayer`` in eval mode, ``nn.MultiheadAttention``) sees the adapter too.

    Parameters
    ----------
    base_layer : nn.Linear or transformers' Conv1D
        Taken over as it is, and frozen.
    delta : Delta
    """

    def __init__(self, base_layer, delta):
        super().__init__()
        self.base_layer = base_layer.requires_grad_(False)
        self.delta = delta
        self.enabled = True
        self.register_buffer("unmerged_weight", None, persistent=False)
        self.train(base_layer.training)

    def forward(self, x):
        """The base layer's output plus the update's."""
        y = self.base_layer(x)
        return y + self.delta(x).to(y.dtype) if self.enabled and not self.merged else y

    @property
    def weight(self):
        """The effective weight, in the base layer's own layout and dtype."""
        if self.enabled and not self.merged:
            return self.updated_weight()
        return self.base_layer.weight

    @property
    def base_weight(self):
        """The weight (m, n), out by in, that the update is for."""
        weight = self.unmerged_weight if self.merged else self.base_layer.weight
        return weight.T if is_conv1d(self.base_layer) else weight

    @property
    def bias(self):
        """The base layer's bias."""
        return self.base_layer.bias

    @property
    def in_features(self):
        """Length of an input row."""
        return self.base_weight.shape[1]

    @property
    def out_features(self):
        """Length of an output row."""
        return self.base_weight.shape[0]

    @property
    def merged(self):
        """Whether the update is in the base layer's weight."""
        return self.unmerged_weight is not None

    def updated_weight(self):
        """Base weight plus update, in the base layer's layout and dtype."""
        weight, update = self.base_layer.weight, self.delta.matrix()
        return (weight + (update.T if is_conv1d(self.base_layer) else update)).to(weight.dtype)

    @torch.no_grad()
    def merge(self):
        """Put the update into the base layer's weight; the old one is kept beside it."""
        if self.merged:
            raise _validation.complain(ValueError, "the adapter", "unmerged to be merged", "a merged one")
        weight = self.base_layer.weight
        self.base_layer.weight = nn.Parameter(self.updated_weight(), requires_grad=False)
        self.unmerged_weight = weight.detach()

    def unmerge(self):
        """Bring back the base layer's weight, bit for bit."""
        if not self.merged:
            raise _validation.complain(ValueError, "the adapter", "merged to be unmerged", "an unmerged one")
        self.base_layer.weight = nn.Parameter(self.unmerged_weight, requires_grad=False)
        self.unmerged_weight = None

    def extra_repr(self):
        """What was built in, for ``print(model)``."""
        return f"{self.delta.kind}, merged={self.merged}, enabled={self.enabled}"


def adapted_layers(model):
    """The adapted layers of a model by name; at least one."""
    found = {name: module for name, module in model.named_modules() if isinstance(module, AdaptedLinear)}
    if not found:
        raise _validation.complain(ValueError, "model", "one with adapters", "none")
    return found
