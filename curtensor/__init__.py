"""Low-rank approximation out of the data's own rows, columns and fibres."""

import importlib.util
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:  # what checkers and editors see; at run time each name is loaded when first asked for
    from curtensor import adapters as adapters
    from curtensor import comparison as comparison
    from curtensor import files as files
    from curtensor import selection as selection
    from curtensor import sketching as sketching
    from curtensor import tensors as tensors
    from curtensor.accuracy import relative_error as relative_error
    from curtensor.comparison import Comparison as Comparison
    from curtensor.comparison import compare as compare
    from curtensor.cur import CUR as CUR
    from curtensor.cur import cur_decomposition as cur_decomposition
    from curtensor.cur import cur_from_indices as cur_from_indices
    from curtensor.estimators import ColumnSelector as ColumnSelector
    from curtensor.estimators import CURTransformer as CURTransformer
    from curtensor.estimators import NystroemCUR as NystroemCUR
    from curtensor.estimators import RowSelector as RowSelector
    from curtensor.explanation import Explanation as Explanation
    from curtensor.explanation import explain as explain
    from curtensor.interpolative import ID as ID
    from curtensor.interpolative import interpolative_decomposition as interpolative_decomposition
    from curtensor.kernels import KernelCUR as KernelCUR
    from curtensor.kernels import kernel_cur as kernel_cur
    from curtensor.leverage import leverage_scores as leverage_scores
    from curtensor.operands.blocks import RowBlocks as RowBlocks
    from curtensor.operands.blocks import row_blocks as row_blocks
    from curtensor.selection import select_columns as select_columns
    from curtensor.selection import select_rows as select_rows
    from curtensor.svd import SVD as SVD
    from curtensor.svd import randomized_svd as randomized_svd
    from curtensor.tensors import TensorCUR as TensorCUR
    from curtensor.tensors import Tucker as Tucker
    from curtensor.tensors import tensor_cur as tensor_cur
    from curtensor.tensors.quantics import QuanticsGrid as QuanticsGrid
    from curtensor.tensors.train_cross import tt_cross as tt_cross
    from curtensor.tensors.trains import TensorTrain as TensorTrain
    from curtensor.tensors.trains import tt_svd as tt_svd
    from curtensor.tensors.tubal import TubalCUR as TubalCUR
    from curtensor.tensors.tubal import TubalSVD as TubalSVD
    from curtensor.tensors.tubal import t_adjoint as t_adjoint
    from curtensor.tensors.tubal import t_product as t_product
    from curtensor.tensors.tubal import tubal_cur as tubal_cur
    from curtensor.tensors.tubal import tubal_svd as tubal_svd
    from curtensor.tensors.tucker import hooi as hooi
    from curtensor.tensors.tucker import st_hosvd as st_hosvd
    from curtensor.tensors.tucker import tucker_to_tensor as tucker_to_tensor
    from curtensor.tensors.unfolding import fold as fold
    from curtensor.tensors.unfolding import mode_dot as mode_dot
    from curtensor.tensors.unfolding import mode_gram as mode_gram
    from curtensor.tensors.unfolding import multi_mode_dot as multi_mode_dot
    from curtensor.tensors.unfolding import unfold as unfold

# Each public name and the module it is loaded from.
_HOMES = {
    "CUR": "cur",
    "CURTransformer": "estimators",
    "ColumnSelector": "estimators",
    "Comparison": "comparison",
    "Explanation": "explanation",
    "ID": "interpolative",
    "KernelCUR": "kernels",
    "NystroemCUR": "estimators",
    "QuanticsGrid": "tensors.quantics",
    "RowBlocks": "operands.blocks",
    "RowSelector": "estimators",
    "SVD": "svd",
    "TensorCUR": "tensors",
    "TensorTrain": "tensors.trains",
    "TubalCUR": "tensors.tubal",
    "TubalSVD": "tensors.tubal",
    "Tucker": "tensors",
    "compare": "comparison",
    "cur_decomposition": "cur",
    "cur_from_indices": "cur",
    "explain": "explanation",
    "fold": "tensors.unfolding",
    "hooi": "tensors.tucker",
    "interpolative_decomposition": "interpolative",
    "kernel_cur": "kernels",
    "leverage_scores": "leverage",
    "mode_dot": "tensors.unfolding",
    "mode_gram": "tensors.unfolding",
    "multi_mode_dot": "tensors.unfolding",
    "randomized_svd": "svd",
    "relative_error": "accuracy",
    "row_blocks": "operands.blocks",
    "select_columns": "selection",
    "select_rows": "selection",
    "st_hosvd": "tensors.tucker",
    "t_adjoint": "tensors.tubal",
    "t_product": "tensors.tubal",
    "tensor_cur": "tensors",
    "tt_cross": "tensors.train_cross",
    "tt_svd": "tensors.trains",
    "tubal_cur": "tensors.tubal",
    "tubal_svd": "tensors.tubal",
    "tucker_to_tensor": "tensors.tucker",
    "unfold": "tensors.unfolding",
}

# Not the estimators, so that `from curtensor import *` needs no scikit-learn.
__all__ = [name for name, home in _HOMES.items() if home != "estimators"]

if not TYPE_CHECKING:  # for checkers, a name that is not above is a mistake

    def __getattr__(name):
        if name in _HOMES:
            value = getattr(importlib.import_module(f"curtensor.{_HOMES[name]}"), name)
        elif not name.startswith("_") and importlib.util.find_spec(f"curtensor.{name}"):
            value = importlib.import_module(f"curtensor.{name}")
        else:
            raise AttributeError(f"module 'curtensor' has no attribute {name!r}")
        globals()[name] = value
        return value

    def __dir__():
        return [*globals(), *_HOMES]
