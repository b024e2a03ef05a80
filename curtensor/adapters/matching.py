"""Which layers of a model are meant: names, patterns and the checks of what they find."""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import nn

from curtensor import _validation, operands
from curtensor.adapters.linear import find_adapted, is_conv1d, weight_matrix

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class Targets(NamedTuple):
    """Layers to adapt by name with their options, and modules that are trained whole."""

    layers: dict
    options: dict
    saved: list


def find_targets(model, target_modules, options, exclude_modules, layers_to_transform, modules_to_save):
    """The `Targets` of a conversion, checked; nothing is changed."""
    if not isinstance(model, nn.Module):
        raise _validation.complain(TypeError, "model", "a torch.nn.Module", type(model))
    without_adapters(model)
    modules = adaptable_modules(model)
    if not modules:
        raise _validation.complain(ValueError, "model", "one with modules in it to replace", type(model).__name__)
    chosen = match(modules, target_modules, options, "target_modules", outputs_of(model))
    excluded = match(modules, exclude_modules, {}, "exclude_modules")
    chosen = {name: own for name, own in chosen.items() if name not in excluded}
    if not chosen:
        raise _validation.complain(ValueError, "target_modules", "more than exclude_modules", "nothing left")
    chosen = in_layers(chosen, layers_to_transform)
    saved = list(match(modules, _validation.name_list(modules_to_save, "modules_to_save"), {}, "modules_to_save"))
    for name in chosen:
        check_layer(name, modules[name])
        for other in saved:
            if f"{name}.".startswith(f"{other}."):
                raise _validation.complain(ValueError, "modules_to_save", "apart from target_modules", repr(other))
    return Targets({name: modules[name] for name in chosen}, chosen, [modules[name] for name in saved])


def without_adapters(model):
    """Raise if a model has adapters."""
    found = list(find_adapted(model))
    if found:
        raise _validation.complain(ValueError, "model", "without adapters", f"one in {found[0]!r}")


def adaptable_modules(model):
    """All modules within a model by name, attentions also under the name of their packed input projection."""
    modules = {}
    for name, module in model.named_modules():
        if name:
            modules[name] = module
        if type(module) is nn.MultiheadAttention and module.in_proj_weight is not None:
            modules[f"{name}.in_proj_weight".lstrip(".")] = module
    return modules


def match(modules, patterns, options, argument, outputs=()):
    """Names of the modules that are meant, each with its options, in the model's order."""
    if isinstance(patterns, str) and patterns == "all-linear":
        linear = {name for name, module in modules.items() if isinstance(module, nn.Linear) or is_conv1d(module)}
        linear -= {name for name in linear if modules[name] in outputs}
        if not linear:
            raise _validation.complain(ValueError, argument, "names of modules; no Linear or Conv1D is there", patterns)
        found = {"all-linear": (linear, options)}
    elif isinstance(patterns, str):
        found = {patterns: (matching(modules, compiled(patterns, argument)), options)}
    elif isinstance(patterns, Mapping):
        found = {}
        for key, own in patterns.items():
            whole = compiled(rf"(.*\.)?({key})", argument)
            found[key] = matching(modules, whole), options | own_options(key, own, options, argument)
    else:
        names = _validation.name_list(patterns, argument)
        found = {key: (matching(modules, compiled(rf"(.*\.)?{re.escape(key)}", argument)), options) for key in names}
    if not found and argument == "target_modules":
        raise _validation.complain(ValueError, argument, "at least one name", "none")
    for key, (names, _) in found.items():
        if not names:
            raise _validation.complain(ValueError, argument, f"names of modules; {closest(key, modules)}", repr(key))
    return {name: next(own for names, own in found.values() if name in names)
            for name in modules if any(name in names for names, _ in found.values())}  # fmt: skip


def compiled(pattern, argument):
    """A regular expression, or the complaint that it is none."""
    try:
        return re.compile(pattern)
    except (re.error, TypeError):
        raise _validation.complain(ValueError, argument, "names or a regular expression", repr(pattern)) from None


def matching(modules, pattern):
    """Names which a regular expression matches as a whole."""
    return {name for name in modules if pattern.fullmatch(name)}


def own_options(key, own, options, argument):
    """The options of one pattern, all of them known."""
    if not isinstance(own, Mapping):
        raise _validation.complain(TypeError, f"{argument}[{key!r}]", "a mapping of options", _validation.describe(own))
    for name in own:
        _validation.one_of(options, name, f"each option of {argument}[{key!r}]")
    return dict(own)


def closest(key, modules):
    """What could have been meant by a name that matches nothing."""
    suffixes = {name.rsplit(".", 1)[-1]: None for name in modules} | dict.fromkeys(modules)
    near = difflib.get_close_matches(str(key), suffixes, n=3, cutoff=0.4) or list(suffixes)[:3]
    return f"the closest are {', '.join(map(repr, near))}"


def outputs_of(model):
    """The output layer of a language model, which ``"all-linear"`` leaves alone."""
    output = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    return [] if output is None else [output]


def layer_number(name):
    """The first number in a module's path, or None."""
    return next((int(part) for part in name.split(".") if part.isdecimal()), None)


def in_layers(chosen, layers_to_transform):
    """The matches whose layer number is wanted."""
    if layers_to_transform is None:
        return chosen
    numbers = {layer_number(name) for name in chosen} - {None}
    wanted = list(layers_to_transform) if isinstance(layers_to_transform, Iterable) else [layers_to_transform]
    for number in wanted:
        number = _validation.integer(number, "each of layers_to_transform", 0, 10**6)
        if number not in numbers:
            what = f"among the matched layers' numbers {sorted(numbers)}"
            raise _validation.complain(ValueError, "layers_to_transform", what, number)
    chosen = {name: own for name, own in chosen.items() if layer_number(name) in wanted}
    if not chosen:
        raise _validation.complain(ValueError, "layers_to_transform", "at least one number", "none")
    return chosen


def check_layer(name, layer):
    """Raise unless the layer is a plain linear one with a finite floating-point weight."""
    module = f"the module {name!r}"
    attention = isinstance(layer, nn.MultiheadAttention)
    if attention and name.rsplit(".", 1)[-1] != "in_proj_weight":
        what = "a linear layer: of an attention, name 'in_proj_weight' or 'out_proj'"
        raise _validation.complain(TypeError, module, what, type(layer).__name__)
    if not (attention or isinstance(layer, nn.Linear) or is_conv1d(layer)):
        raise _validation.complain(TypeError, module, "a torch.nn.Linear or transformers' Conv1D", type(layer))
    weight = layer._parameters.get("in_proj_weight" if attention else "weight")
    what = f"the weight of {name!r}"
    if weight is None or isinstance(weight, nn.parameter.UninitializedParameter):
        raise _validation.complain(ValueError, what, "a parameter that holds numbers", "none (lazy or parametrized)")
    if weight.dtype not in FLOATS or weight.is_quantized or weight.layout != torch.strided or weight.ndim != 2:
        raise _validation.complain(TypeError, what, "a matrix in half, single or double precision", f"{weight.dtype}")
    if weight.is_meta:
        raise _validation.complain(ValueError, what, "a tensor with data", "one on the meta device")
    operand, W = operands.find(weight_matrix(layer))
    index = operand.first_nonfinite(W)
    if index is not None:
        raise _validation.complain(ValueError, what, "finite", f"NaN or infinity, first at {index}")
