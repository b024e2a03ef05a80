"""Low-rank approximation out of the data's own rows, columns and fibres."""

import importlib

__version__ = "0.1.0"

# Each public name and the module it is loaded from when first asked for.
_HOMES = {
    "CUR": "cur",
    "Comparison": "comparison",
    "ID": "interpolative",
    "SVD": "svd",
    "compare": "comparison",
    "cur_decomposition": "cur",
    "interpolative_decomposition": "interpolative",
    "leverage_scores": "leverage",
    "randomized_svd": "svd",
    "relative_error": "accuracy",
    "select_columns": "selection",
    "select_rows": "selection",
}

__all__ = list(_HOMES)


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module 'curtensor' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"curtensor.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return [*globals(), *_HOMES]
