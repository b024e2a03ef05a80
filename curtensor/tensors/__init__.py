"""CUR of tensors: a sub-tensor as core, and a factor for each mode.

`entries` says what can be read, `indices` how fibres and slices are chosen, `methods` holds the dict of methods,
`result` what comes out, and `decomposition` the public function.
"""

from curtensor.tensors.decomposition import tensor_cur
from curtensor.tensors.methods import TENSOR_METHODS
from curtensor.tensors.result import TensorCUR

__all__ = ["TENSOR_METHODS", "TensorCUR", "tensor_cur"]
