"""Adapters on disk: small checkpoints of our own, and LoRA files as PEFT reads them."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from curtensor import _validation
from curtensor.adapters.convert import install
from curtensor.adapters.deltas import DELTAS
from curtensor.adapters.linear import AdaptedLinear, adapted_layers, is_conv1d, weight_matrix
from curtensor.adapters.matching import adaptable_modules, check_layer, without_adapters

CHECKPOINT_FORMAT = 1
TENSORS, DESCRIPTION = "adapter.safetensors", "adapter.json"


def save_adapter(model, folder):
    """Write a model's adapters to a folder: what was trained, and the indices of chosen columns and rows.

    C and R are not written: they are made anew from the base model, of which a fingerprint is kept.

    Parameters
    ----------
    model : torch.nn.Module
        With adapters, merged or not.
    folder : str or path
        Made if it does not exist. ``adapter.safetensors`` and ``adapter.json`` in it are replaced.

    Raises
    ------
    ValueError
        If there is no adapter.

    Notes
    -----
    Reads each adapted weight once for its fingerprint. Modules trained whole are written, too.

    Examples
    --------
    >>> import tempfile, torch
    >>> from curtensor.adapters import convert_to_curlora, load_adapter, save_adapter
    >>> model = convert_to_curlora(torch.nn.Sequential(torch.nn.Linear(9, 9)), ["0"], rank=2, progress=False, rng=0)
    >>> base = torch.nn.Sequential(torch.nn.Linear(9, 9))
    >>> _ = base[0].load_state_dict(model[0].base_layer.state_dict())
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_adapter(model, folder)
    ...     model = load_adapter(base, folder)
    """
    layers = adapted_layers(model)
    tensors, units = {}, []
    for names, deltas in units_of(layers):
        number = len(units)
        for name, tensor in deltas[0].state_dict().items():
            if name not in deltas[0].rebuilt:
                tensors[f"{number}.{name}"] = tensor.detach().cpu().contiguous()
        base = [fingerprint(layers[name].base_weight) for name in names]
        units.append({"kind": deltas[0].kind, "options": deltas[0].options, "layers": names, "base": base})
    saved = {name: module for name, module in model.named_modules() if hasattr(module, "trained_with_adapter")}
    for name, module in saved.items():
        for key, tensor in module.state_dict().items():
            tensors[f"saved.{name}.{key}"] = tensor.detach().cpu().contiguous().clone()
    description = {"format": CHECKPOINT_FORMAT, "adapters": units, "saved": list(saved)}
    os.makedirs(folder, exist_ok=True)
    write_whole(Path(folder, TENSORS), save(tensors))
    write_whole(Path(folder, DESCRIPTION), json.dumps(description, separators=(",", ":")).encode())


def load_adapter(model, folder):
    """Put the adapters which `save_adapter` wrote into a model.

    Parameters
    ----------
    model : torch.nn.Module
        The base model as it was when the adapters were made, without adapters. Changed in place, all or nothing.
    folder : str or path
        Where the two files are.

    Returns
    -------
    model : torch.nn.Module
        The same object, frozen but for the adapters and the modules trained whole.

    Raises
    ------
    FileNotFoundError
        If a file is not there.
    ValueError
        If a file is damaged or of another kind, the model has adapters already, a layer is not there, or its weight
        is not the one that the adapter is for.

    Notes
    -----
    Never unpickles. Chosen columns and rows are read out of the weights and made orthonormal again, which gives the
    same bits on the same machine with the same libraries, and the same up to rounding elsewhere.
    """
    description, tensors = read(Path(folder, DESCRIPTION), Path(folder, TENSORS))
    without_adapters(model)
    modules = adaptable_modules(model)
    units = description["adapters"]
    for name in [name for unit in units for name in unit["layers"]] + description["saved"]:
        if name not in modules:
            raise _validation.complain(ValueError, "model", f"one with a module {name!r}", "none of that name")
    for unit in units:
        for name, wanted in zip(unit["layers"], unit["base"], strict=True):
            check_layer(name, modules[name])
            found = fingerprint(weight_matrix(modules[name]))
            if found != wanted:
                what = f"the weight of {name!r}"
                raise _validation.complain(ValueError, what, f"the base with fingerprint {wanted}", found)
    deltas = {}
    for number, unit in enumerate(units):
        deltas |= zip(unit["layers"], rebuilt(number, unit, modules, tensors), strict=True)
    states = {name: part(tensors, f"saved.{name}.") for name in description["saved"]}
    for name, state in states.items():
        same_shapes(f"saved module {name!r}", modules[name].state_dict(), state)
    install(model, {name: modules[name] for name in deltas}, deltas, [modules[name] for name in states])
    for name, state in states.items():
        modules[name].load_state_dict(state)
    return model


def units_of(layers):
    """Layers which share a delta's parameters, with their deltas in order: ``[(names, deltas), ...]``."""
    units: dict = {}
    for name, layer in layers.items():
        owner = layer.delta.shared[0] if hasattr(layer.delta, "shared") else layer.delta
        units.setdefault(id(owner), []).append((name, layer.delta))
    ordered = [sorted(unit, key=lambda item: getattr(item[1], "layer", 0)) for unit in units.values()]
    return [([name for name, _ in unit], [delta for _, delta in unit]) for unit in ordered]


def rebuilt(number, unit, modules, tensors):
    """The deltas of a unit, with what was trained loaded into them."""
    weights = [weight_matrix(modules[name]).detach() for name in unit["layers"]]
    state = part(tensors, f"{number}.")
    what = f"the adapter of {unit['layers'][0]!r}"
    try:
        deltas = DELTAS[unit["kind"]].rebuild(weights, state, unit["options"])
    except (KeyError, TypeError, IndexError) as error:
        raise _validation.complain(ValueError, what, "complete in the checkpoint", repr(error)) from None
    whole = deltas[0].state_dict()
    fresh = {name: tensor for name, tensor in whole.items() if name in deltas[0].rebuilt}
    same_shapes(what, {name: tensor for name, tensor in whole.items() if name not in fresh}, state)
    deltas[0].load_state_dict(fresh | state)
    return [delta.to(weights[0].device) for delta in deltas]


def same_shapes(what, wanted, found):
    """Raise unless two state dicts have the same names and shapes."""
    wanted = {name: tuple(tensor.shape) for name, tensor in wanted.items()}
    found = {name: tuple(tensor.shape) for name, tensor in found.items()}
    if wanted != found:
        different = sorted(dict(wanted.items() ^ found.items()))
        raise _validation.complain(ValueError, what, "of the model's shapes in the checkpoint", f"others: {different}")


def part(tensors, prefix):
    """The tensors whose names start with a prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def read(description_file, tensors_file):
    """Both files of a checkpoint, parsed and checked for their form."""
    try:
        description = json.loads(description_file.read_bytes())
        known = description["format"] == CHECKPOINT_FORMAT and isinstance(description["saved"], list)
        known = known and all(
            unit["kind"] in DELTAS
            and len(unit["layers"]) == len(unit["base"]) > 0
            and isinstance(unit["options"], dict)
            for unit in description["adapters"]
        )
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise _validation.complain(
            ValueError, str(description_file), f"an adapter of format {CHECKPOINT_FORMAT}", "something else"
        )
    if not tensors_file.exists():
        raise FileNotFoundError(f"{tensors_file} must be a file, got none")
    try:
        return description, load_file(tensors_file)
    except SafetensorError as error:
        raise _validation.complain(ValueError, str(tensors_file), "a whole safetensors file", str(error)) from None


def write_whole(path, content):
    """A file, whole or not at all."""
    temporary = path.with_name(f"{path.name}.part")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def fingerprint(weight):
    """Hash of a weight (m, n)'s shape, dtype and bits, as 16 hexadecimal digits."""
    digest = hashlib.blake2b(f"{tuple(weight.shape)} {weight.dtype}".encode(), digest_size=8)
    height = max(1, 2**24 // (weight.shape[1] * weight.element_size()))
    for start in range(0, len(weight), height):
        panel = weight[start : start + height].detach().cpu().contiguous()
        digest.update(panel.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def export_lora(model, folder, *, rank=None, base_model_name=None):
    """Write the adapters as LoRA, in the files that PEFT, transformers and vLLM read.

    Parameters
    ----------
    model : torch.nn.Module
        With adapters of any kind, merged or not.
    folder : str or path
        Made if it does not exist. ``adapter_model.safetensors`` and ``adapter_config.json`` in it are replaced.
    rank : int, optional
        Rank of all layers; by default the smallest that is exact for all of them. A smaller one gives the best
        approximation of each update.
    base_model_name : str, optional
        What to write as the base model's name.

    Returns
    -------
    errors : dict of str to float
        For each layer ``||update - B A||_F / ||update||_F``.

    Raises
    ------
    TypeError
        If the rank or the name is of the wrong kind.
    ValueError
        If there is no adapter or one of an ``in_proj_weight``, the rank is below 1, or an update is not finite.

    Notes
    -----
    B and A come from a QR and a small singular value decomposition in float64, O((m + n) r^2) operations, and are
    balanced. The scale is in them (lora_alpha = r). Modules trained whole are not written.

    References
    ----------
    .. [1] E. J. Hu and others, "LoRA: Low-rank adaptation of large language models", 2021, arXiv:2106.09685.
    """
    layers = adapted_layers(model)
    for name, layer in layers.items():
        if not isinstance(layer, AdaptedLinear):
            raise _validation.complain(
                ValueError, f"the layer {name!r}", "a Linear or Conv1D in LoRA files", "a projection"
            )
    thin = {name: balanced_factors(name, layer.delta) for name, layer in layers.items()}
    exact = max(1, *(B.shape[1] for B, _ in thin.values()))
    rank = exact if rank is None else _validation.integer(rank, "rank", 1, 10**6)
    tensors, errors = {}, {}
    for name, (B, A) in thin.items():
        squares = (A**2).sum(axis=1) ** 2  # of the singular values: rows of A have their norms' square roots
        errors[name] = float(np.sqrt(squares[rank:].sum() / (squares.sum() or 1)))
        B, A = padded(B[:, :rank], rank, 1), padded(A[:rank], rank, 0)
        for key, X in (("lora_A", A), ("lora_B", B)):
            tensors[f"base_model.model.{name}.{key}.weight"] = torch.from_numpy(X.astype(np.float32))
    config = peft_config(layers, rank, base_model_name)
    os.makedirs(folder, exist_ok=True)
    write_whole(Path(folder, "adapter_model.safetensors"), save(tensors, metadata={"format": "pt"}))
    write_whole(Path(folder, "adapter_config.json"), json.dumps(config, indent=2).encode())
    return errors


def balanced_factors(name, delta):
    """B (m, r) and A (r, n) in float64, B A the update, with r its numerical rank and columns as long as rows."""
    with torch.no_grad():
        B, A = (X.double().cpu().numpy() for X in delta.lora_factors())
    if not (np.isfinite(B).all() and np.isfinite(A).all()):
        raise _validation.complain(ValueError, f"the update of {name!r}", "finite", "NaN or infinity")
    QB, TB = np.linalg.qr(B)
    QA, TA = np.linalg.qr(A.T)
    U, s, Vh = np.linalg.svd(TB @ TA.T)
    keep = s > 1e-12 * s.max(initial=0)
    root = np.sqrt(s[keep])
    return QB @ U[:, keep] * root, root[:, None] * (Vh[keep] @ QA.T)


def padded(X, rank, axis):
    """Zeros appended along an axis up to the rank."""
    widths = [(0, 0), (0, 0)]
    widths[axis] = (0, rank - X.shape[axis])
    return np.ascontiguousarray(np.pad(X, widths))


def peft_config(layers, rank, base_model_name):
    """What PEFT's ``LoraConfig`` is read from."""
    if not (base_model_name is None or isinstance(base_model_name, str)):
        raise _validation.complain(TypeError, "base_model_name", "a str or None", _validation.describe(base_model_name))
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": base_model_name,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": all(is_conv1d(layer.base_layer) for layer in layers.values()),
        "target_modules": sorted(layers),
    }
