"""Low-rank approximation out of the data's own rows, columns and fibres."""

import importlib

__version__ = "0.1.0"

# Each public name and the module it is loaded from when first asked for.
_HOMES = {
    "CUR": "cur",
    "CURTransformer": "estimators",
    "ColumnSelector": "estimators",
    "Comparison": "comparison",
    "ID": "interpolative",
    "RowSelector": "estimators",
    "SVD": "svd",
    "TensorCUR": "tensors",
    "TubalCUR": "tubal",
    "TubalSVD": "tubal",
    "Tucker": "tucker",
    "compare": "comparison",
    "cur_decomposition": "cur",
    "cur_from_indices": "cur",
    "fold": "unfolding",
    "hooi": "tucker",
    "interpolative_decomposition": "interpolative",
    "leverage_scores": "leverage",
    "mode_dot": "unfolding",
    "mode_gram": "unfolding",
    "multi_mode_dot": "unfolding",
    "randomized_svd": "svd",
    "relative_error": "accuracy",
    "row_blocks": "operands.blocks",
    "select_columns": "selection",
    "select_rows": "selection",
    "st_hosvd": "tucker",
    "t_adjoint": "tubal",
    "t_product": "tubal",
    "tensor_cur": "tensors",
    "tubal_cur": "tubal",
    "tubal_svd": "tubal",
    "tucker_to_tensor": "tucker",
    "unfold": "unfolding",
}

# Not the estimators, so that `from curtensor import *` needs no scikit-learn.
__all__ = [name for name, home in _HOMES.items() if home != "estimators"]


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module 'curtensor' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"curtensor.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return [*globals(), *_HOMES]
