"""Adapters for PyTorch models: LoRA, CURLoRA, tCURLoRA and AdaLoRA from the weights' own rows and columns.

Needs the extra ``curtensor[torch]``; what is for PEFT, ``curtensor[peft]``.
"""

import importlib

# Each public name and the module it is loaded from when first asked for.
_HOMES = {
    "CURLoRAConfig": "curlora",
    "CURLoRAModel": "curlora",
    "MultimodalTCURLoRA": "multimodal",
    "TCURLoRAConfig": "tcurlora",
    "TCURLoRAModel": "tcurlora",
    "adapter_parameters": "convert",
    "convert_to_adalora": "convert",
    "convert_to_curlora": "convert",
    "convert_to_lora": "convert",
    "convert_to_tcurlora": "convert",
    "count_parameters": "convert",
    "evaluate_model": "evaluation",
    "export_lora": "checkpoint",
    "initialize_lora_cur_weights": "initialise",
    "load_adapter": "checkpoint",
    "merge": "convert",
    "print_trainable_parameters": "convert",
    "save_adapter": "checkpoint",
    "unload": "convert",
    "unmerge": "convert",
}

__all__ = list(_HOMES)


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module 'curtensor.adapters' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"curtensor.adapters.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return [*globals(), *_HOMES]


for _tuner in ("curlora", "tcurlora"):  # which makes both methods known to PEFT
    importlib.import_module(f"curtensor.adapters.{_tuner}")
