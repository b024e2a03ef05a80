"""torch's own transformer modules, whose fast paths read weights behind an adapter's back, made to call their layers.

``nn.TransformerEncoderLayer`` in evaluation reads ``linear1.weight``, and ``nn.MultiheadAttention`` always reads
``out_proj.weight``, so that an adapter on these layers would vanish. `call_layers` gives such modules another class, in
place, as ``torch.nn.utils.parametrize`` does; their parameters and their names stay.
"""

import torch
import torch.nn.functional as F
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn

from curtensor import _validation

PACKED = "in_proj_weight"  # of an attention: three projections in one parameter, no layer


class CallingEncoderLayer(nn.TransformerEncoderLayer):
    """``nn.TransformerEncoderLayer`` that calls its layers in evaluation, too."""

    activation_relu_or_gelu = property(lambda self: 0)  # torch's word for what its fast path does not know

    def forward(self, src, src_mask=None, src_key_padding_mask=None, is_causal=False):
        """The layer's output; nested where the encoder has made the input so out of a padding mask."""
        if not src.is_nested:
            return super().forward(src, src_mask, src_key_padding_mask, is_causal)
        lengths = torch.tensor([len(sequence) for sequence in src.unbind()], device=src.device)
        padded = src.to_padded_tensor(0.0)
        kept = torch.arange(padded.shape[1], device=src.device) < lengths[:, None]
        return torch._nested_tensor_from_mask(super().forward(padded, None, ~kept), kept, mask_check=False)


class CallingAttention(nn.MultiheadAttention):
    """``nn.MultiheadAttention`` that calls its output projection."""

    def projected(self, query, key, value):
        """Queries, keys and values, each (N, length, embed_dim)."""
        packed = self._qkv_same_embed_dim
        W = self.in_proj_weight.chunk(3) if packed else (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        b = (None, None, None) if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        return [F.linear(x, *own) for x, own in zip((query, key, value), zip(W, b, strict=True), strict=True)]

    def forward(
        self, query, key, value, key_padding_mask=None, need_weights=True, attn_mask=None, average_attn_weights=True,
        is_causal=False,
    ):  # fmt: skip
        """Outputs and weights of the attention, as of ``nn.MultiheadAttention``."""
        if is_causal and attn_mask is None:
            raise _validation.complain(ValueError, "attn_mask", "given with is_causal", None)
        batched = query.dim() == 3
        first = self.batch_first if batched else True

        q, k, v = self.projected(*self.turned((query, key, value), batched))
        k, v = self.extended(k, self.bias_k), self.extended(v, self.bias_v)
        q, k, v = (x.unflatten(2, (self.num_heads, self.head_dim)).transpose(1, 2) for x in (q, k, v))
        mask = self.merged_mask(attn_mask, key_padding_mask, q, k)
        dropout = self.dropout if self.training else 0.0
        if need_weights:
            scores = q @ k.transpose(2, 3) / q.shape[3] ** 0.5
            weights = F.dropout((scores if mask is None else scores + mask).softmax(dim=3), dropout)
            mixed = weights @ v
            weights = weights.mean(dim=1) if average_attn_weights else weights
        else:
            mixed, weights = F.scaled_dot_product_attention(q, k, v, mask, dropout), None

        y = self.out_proj(mixed.transpose(1, 2).flatten(2))
        y = y if first else y.transpose(0, 1)
        return (y, weights) if batched else (y[0], None if weights is None else weights[0])

    def turned(self, inputs, batched):
        """Queries, keys and values with the batch first; the same tensor stays the same."""
        turned = {id(x): x[None] if not batched else x if self.batch_first else x.transpose(0, 1) for x in inputs}
        return [turned[id(x)] for x in inputs]

    def extended(self, x, bias):
        """Keys or values with the trained one and the zero that the attention may add."""
        extra = [] if bias is None else [bias.expand(len(x), 1, -1)]
        return torch.cat([x, *extra, *([torch.zeros_like(x[:, :1])] if self.add_zero_attn else [])], dim=1)

    def merged_mask(self, attn_mask, key_padding_mask, q, k):
        """What to add to the scores (N, heads, length, source length), or None; what `extended` added is seen."""
        parts = []
        if attn_mask is not None:
            parts.append(attn_mask.unflatten(0, (-1, self.num_heads)) if attn_mask.dim() == 3 else attn_mask)
        if key_padding_mask is not None:
            parts.append(key_padding_mask.reshape(-1, 1, 1, key_padding_mask.shape[-1]))
        if not parts:
            return None
        zero = q.new_zeros(())
        mask = sum(zero.masked_fill(X, -torch.inf) if X.dtype == torch.bool else X.to(q.dtype) for X in parts)
        return F.pad(mask, (0, k.shape[2] - mask.shape[-1]))


class LayeredAttention(CallingAttention):
    """An attention whose packed projection is a linear layer, ``in_proj``, that can have adapters."""

    def projected(self, query, key, value):
        """Queries, keys and values, each (N, length, embed_dim)."""
        if query is key is value:
            return self.in_proj(query).chunk(3, dim=-1)
        outputs = {id(x): self.in_proj(x).chunk(3, dim=-1) for x in (query, key, value)}
        return [outputs[id(x)][place] for place, x in enumerate((query, key, value))]

    @property
    def in_proj_weight(self):
        """The base's packed weight."""
        return self.in_proj.weight

    @property
    def in_proj_bias(self):
        """The base's packed bias."""
        return self.in_proj.bias


PLAIN = {
    CallingEncoderLayer: nn.TransformerEncoderLayer,
    CallingAttention: nn.MultiheadAttention,
    LayeredAttention: nn.MultiheadAttention,
}


def open_attentions(model, target_modules):
    """Make a layer of each packed projection where the targets name one; the targets by the layers' names."""
    named = [target_modules] if isinstance(target_modules, str) else list(target_modules or ())
    if any("in_proj" in name for name in named):
        for module in list(model.modules()):
            if type(module) is nn.MultiheadAttention and module._qkv_same_embed_dim:
                open_attention(module)
    if not any(PACKED in name for name in named):
        return target_modules
    layers = [name.replace(PACKED, "in_proj") for name in named]
    return layers[0] if isinstance(target_modules, str) else set(layers)


def open_attention(attention):
    """Make a layer of its packed projection."""
    weight, bias = (attention._parameters.pop(name) for name in (PACKED, "in_proj_bias"))
    attention.__class__ = LayeredAttention
    attention.in_proj = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    attention.in_proj.weight = weight
    attention.in_proj.bias = bias
    attention.in_proj.train(attention.training)


def call_layers(model):
    """Let all modules of torch's transformers that hold adapters call them, and all others be as they were."""
    for module in list(model.modules()):
        adapted = any(isinstance(inner, BaseTunerLayer) for inner in module.modules())
        if type(module) is LayeredAttention and not isinstance(module.in_proj, BaseTunerLayer):
            packed = {PACKED: module.in_proj.weight, "in_proj_bias": module.in_proj.bias}
            del module.in_proj
            module.__class__ = CallingAttention if adapted else nn.MultiheadAttention
            module._parameters = packed | module._parameters  # in their old place
        elif type(module) in PLAIN and not adapted:
            module.__class__ = PLAIN[type(module)]
        elif adapted and type(module) not in PLAIN:
            for calling in (CallingEncoderLayer, CallingAttention):
                plain = PLAIN[calling]
                if type(module) is plain:
                    module.__class__ = calling
                elif isinstance(module, plain) and type(module).forward is plain.forward:
                    what = f"an nn.{plain.__name__} itself, whose layers can be called"
                    raise _validation.complain(TypeError, "a module with adapters in it", what, type(module).__name__)


def join_names(model):
    """Put each layer with adapters under all names that its base layer has in the model."""
    layers = {}
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            layers.setdefault(id(module.get_base_layer()), module)
    for parent in list(model.modules()):
        if not isinstance(parent, BaseTunerLayer):
            parent._modules.update({key: layers.get(id(child), child) for key, child in parent._modules.items()})


def take_out(model):
    """Put base layers back in place of layers with adapters and of modules that are trained whole."""
    for parent in list(model.modules()):
        for key, child in list(parent._modules.items()):
            if isinstance(child, BaseTunerLayer):
                parent._modules[key] = child.get_base_layer()
            elif isinstance(child, AuxiliaryTrainingWrapper):
                parent._modules[key] = child.original_module
    vars(model).pop("peft_config", None)
    call_layers(model)
