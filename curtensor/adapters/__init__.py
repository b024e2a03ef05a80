"""Adapters for PyTorch models: LoRA, CURLoRA, tCURLoRA and AdaLoRA from the weights' own rows and columns.

Needs the extra ``curtensor[torch]``; what is for PEFT, ``curtensor[peft]``.
"""

import importlib

# Each public name and the module it is loaded from when first asked for.
_HOMES = {
    "AdaLoRA": "deltas",
    "AdaptedLinear": "linear",
    "CURLoRA": "deltas",
    "CURLoRAConfig": "curlora",
    "CURLoRAModel": "curlora",
    "LoRA": "deltas",
    "MultimodalTCURLoRA": "multimodal",
    "RankAllocator": "rank_allocation",
    "TCURLoRA": "deltas",
    "TCURLoRAConfig": "tcurlora",
    "TCURLoRAModel": "tcurlora",
    "adapter_parameters": "evaluation",
    "convert_to_adalora": "convert",
    "convert_to_curlora": "convert",
    "convert_to_lora": "convert",
    "convert_to_tcurlora": "convert",
    "count_parameters": "evaluation",
    "disabled": "merging",
    "evaluate_model": "evaluation",
    "export_lora": "checkpoint",
    "load_adapter": "checkpoint",
    "initialize_lora_cur_weights": "peft_bridge",
    "merge": "merging",
    "orthogonality_penalty": "rank_allocation",
    "print_trainable_parameters": "evaluation",
    "save_adapter": "checkpoint",
    "unload": "merging",
    "unmerge": "merging",
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
