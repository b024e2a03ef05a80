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
    """A layer's weight as (m, n), out by in; of ``nn.MultiheadAttention`` its ``in_proj_weight``."""
    if isinstance(layer, nn.MultiheadAttention):
        return layer.in_proj_weight
    return layer.weight.T if is_conv1d(layer) else layer.weight


class Adapted(nn.Module):
    """What has a frozen weight and a delta; a subclass says where the weight is.

    A state dict holds the weight without the update, whether that is merged or not; loading one unmerges.
    """

    place: str  # path of the frozen parameter
    transposed = False  # whether the weight lies in by out

    def __init__(self, delta, training):
        super().__init__()
        self.delta = delta
        self.enabled = True
        self.register_buffer("unmerged_weight", None, persistent=False)
        self.train(training)

    @property
    def frozen(self):
        """Module and name of the frozen parameter."""
        path, _, name = self.place.rpartition(".")
        return self.get_submodule(path), name

    @property
    def merged(self):
        """Whether the update is in the frozen weight."""
        return self.unmerged_weight is not None

    @property
    def base_weight(self):
        """The weight (m, n), out by in, that the update is for."""
        weight = self.unmerged_weight if self.merged else getattr(*self.frozen)
        return weight.T if self.transposed else weight

    @property
    def in_features(self):
        """Length of an input row."""
        return self.base_weight.shape[1]

    @property
    def out_features(self):
        """Length of an output row."""
        return self.base_weight.shape[0]

    def updated(self, weight):
        """A weight plus the update, in the weight's own layout and dtype; itself where that is in it or disabled."""
        if self.merged or not self.enabled:
            return weight
        update = self.delta.matrix()
        return (weight + (update.T if self.transposed else update)).to(weight.dtype)

    @torch.no_grad()
    def merged_weight(self):
        """What the frozen weight will be when the update is merged."""
        return self.updated(getattr(*self.frozen))

    @torch.no_grad()
    def merge(self):
        """Put the update into the frozen weight; the old one is kept beside it."""
        if self.merged:
            raise _validation.complain(ValueError, "the adapter", "unmerged to be merged", "a merged one")
        module, name = self.frozen
        weight = getattr(module, name)
        setattr(module, name, nn.Parameter(self.updated(weight), requires_grad=False))
        self.unmerged_weight = weight.detach()

    def unmerge(self):
        """Bring back the frozen weight, bit for bit."""
        if not self.merged:
            raise _validation.complain(ValueError, "the adapter", "merged to be unmerged", "an unmerged one")
        module, name = self.frozen
        setattr(module, name, nn.Parameter(self.unmerged_weight, requires_grad=False))
        self.unmerged_weight = None

    def extra_repr(self):
        """What was built in, for ``print(model)``."""
        return f"{self.delta.kind}, merged={self.merged}, enabled={self.enabled}"

    def state_dict(self, *args, prefix="", **kwargs):
        """As of any module, with the weight without the update."""
        state = super().state_dict(*args, prefix=prefix, **kwargs)
        if self.merged:
            state[prefix + self.place] = self.unmerged_weight
        return state

    def _load_from_state_dict(self, *args, **kwargs):
        if self.merged:
            self.unmerge()
        super()._load_from_state_dict(*args, **kwargs)


class AdaptedLinear(Adapted):
    """A frozen linear layer and an update of its weight: ``forward(x) = base_layer(x) + delta(x)``.

    `weight` is the effective weight, base plus update, so that code which reads a layer's weight and never calls the
    layer (``nn.TransformerEncoderLayer`` in eval mode, ``nn.MultiheadAttention``) sees the adapter too.

    Parameters
    ----------
    base_layer : nn.Linear or transformers' Conv1D
        Taken over as it is, and frozen.
    delta : Delta
        A `LoRA`, `CURLoRA`, `TCURLoRA` or `AdaLoRA`, or another module of that kind.

    Examples
    --------
    >>> import torch
    >>> from curtensor.adapters import AdaptedLinear, CURLoRA
    >>> base = torch.nn.Linear(6, 5)
    >>> layer = AdaptedLinear(base, CURLoRA(base.weight, [0, 3], [1, 2]))
    >>> x = torch.ones(2, 6)
    >>> bool(torch.equal(layer(x), base(x)))
    True
    """

    place = "base_layer.weight"

    def __init__(self, base_layer, delta):
        super().__init__(delta, base_layer.training)
        self.base_layer = base_layer.requires_grad_(False)
        self.transposed = is_conv1d(base_layer)

    def forward(self, x):
        """The base layer's output plus the update's."""
        y = self.base_layer(x)
        return y + self.delta(x).to(y.dtype) if self.enabled and not self.merged else y

    @property
    def weight(self):
        """The effective weight, in the base layer's own layout and dtype."""
        return self.updated(self.base_layer.weight)

    @property
    def bias(self):
        """The base layer's bias."""
        return self.base_layer.bias


class AdaptedProjection(Adapted):
    """The frozen packed projection of an attention, and its update; called without input, it gives their sum."""

    place = "base"

    def __init__(self, weight, delta, training):
        super().__init__(delta, training)
        self.base = nn.Parameter(weight.detach(), requires_grad=False)

    def forward(self):
        """The effective weight."""
        return self.updated(self.base)


class AdaptedAttention(nn.MultiheadAttention):
    """``nn.MultiheadAttention`` whose ``in_proj_weight`` is the effective weight of an `AdaptedProjection`.

    Its code reads the weight and calls no layer, so that each forward pass forms the updated weight (3 n, n). An
    attention becomes one of this class in place, as with ``torch.nn.utils.parametrize``; but it can be pickled, and
    taking the adapter out of a copy leaves the original alone.
    """

    @property
    def in_proj_weight(self):
        """The effective weight."""
        return self.in_proj()


def put_beside(model, layers, deltas):
    """Replace each layer by an adapted one, wherever it is in the model."""
    adapted = {}
    for name, delta in deltas.items():
        layer = layers[name]
        if isinstance(layer, nn.MultiheadAttention):
            weight = layer._parameters.pop("in_proj_weight")
            layer.__class__ = AdaptedAttention
            layer.in_proj = AdaptedProjection(weight, delta, layer.training)
        else:
            adapted[layer] = AdaptedLinear(layer, delta)
    for parent in list(model.modules()):
        for key, child in list(parent.named_children()):
            if child in adapted and not isinstance(parent, AdaptedLinear):
                setattr(parent, key, adapted[child])


def take_out(model):
    """Replace each adapted layer by its base layer."""
    for parent in list(model.modules()):
        for key, child in list(parent.named_children()):
            if isinstance(child, AdaptedLinear):
                setattr(parent, key, child.base_layer)
        if isinstance(parent, AdaptedAttention):
            weight = parent.in_proj.base
            del parent.in_proj
            parent.__class__ = nn.MultiheadAttention
            parent._parameters = {"in_proj_weight": weight} | parent._parameters  # the order of the state dict


def find_adapted(model):
    """The adapted layers of a model by the names they had before."""
    return {
        f"{name}_weight" if isinstance(module, AdaptedProjection) else name: module
        for name, module in model.named_modules()
        if isinstance(module, Adapted)
    }


def adapted_layers(model):
    """The adapted layers of a model by name; at least one."""
    found = find_adapted(model)
    if not found:
        raise _validation.complain(ValueError, "model", "one with adapters", "none")
    return found
