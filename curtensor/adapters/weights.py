"""The weights that adapters are for, as matrices (m, n), out by in, and what they must be."""

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from curtensor import _validation, operands

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def lies_in_by_out(layer):
    """Whether a layer's weight is the transpose of the matrix; an embedding's input is a row of zeros with a one."""
    return isinstance(layer, (Conv1D, nn.Embedding))


def of_floats(name, weight):
    """Raise unless a weight is of floats, as those of quantised layers are not."""
    if weight.dtype not in FLOATS or weight.is_quantized or weight.layout != torch.strided:
        what = f"the weight of {name!r}"
        raise _validation.complain(TypeError, what, "in half, single or double precision", f"{weight.dtype}")


def readable(name, weight):
    """Raise unless a weight is one whose columns and rows can be read: it has data, of floats, all of them finite."""
    what = f"the weight of {name!r}"
    of_floats(name, weight)
    if weight.is_meta:
        raise _validation.complain(ValueError, what, "a tensor with data", "one on the meta device")
    index = operands.find(weight)[0].first_nonfinite(weight)
    if index is not None:
        raise _validation.complain(ValueError, what, "finite", f"NaN or infinity, first at {index}")


def whole(tensor):
    """A tensor without gradient; gathered, where it is sharded over processes."""
    tensor = tensor.detach()
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
