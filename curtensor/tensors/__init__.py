"""All that is of tensors: products, Tucker, CUR of tensors, the t-product, and the comparison of these formats.

`unfolding` multiplies a tensor by matrices without copying it, `tucker` holds ST-HOSVD and HOOI, `tubal` third-order
tensors under the t-product. Of a CUR of a tensor, `entries` says what can be read, `indices` how fibres and slices are
chosen, `methods` holds the dict of methods, `result` what comes out, and `decomposition` the public function. Of tensor
trains, `trains` holds the result and TT-SVD, `train_cross` finds them by entries, and `quantics` makes functions of
reals tensors of bits.
"""

from curtensor.tensors.decomposition import tensor_cur
from curtensor.tensors.methods import TENSOR_METHODS
from curtensor.tensors.result import TensorCUR, Tucker

__all__ = ["TENSOR_METHODS", "TensorCUR", "Tucker", "tensor_cur"]
