"""Updates put into the weights and taken out again."""

import contextlib

import torch

from curtensor import _validation
from curtensor.adapters.linear import adapted_layers, take_out


def merge(model):
    """Put all updates into their weights, so that the model is as fast as without adapters.

    Parameters
    ----------
    model : torch.nn.Module
        With adapters, none of them merged.

    Raises
    ------
    ValueError
        If there is no adapter, one is merged already, or a weight would not be finite; nothing is changed then.

    Notes
    -----
    The weights as they were are kept for `unmerge`: one more copy of each adapted weight. Rounding in the weight's
    dtype makes the outputs differ as far as it does.

    Examples
    --------
    >>> import torch
    >>> from curtensor.adapters import convert_to_lora, merge, unmerge
    >>> model = convert_to_lora(torch.nn.Sequential(torch.nn.Linear(4, 4)), ["0"], rank=2, progress=False, rng=0)
    >>> merge(model)
    >>> unmerge(model)
    """
    layers = adapted_layers(model)
    for name, layer in layers.items():
        if layer.merged:
            raise _validation.complain(ValueError, f"the adapter of {name!r}", "unmerged to be merged", "a merged one")
        if not torch.isfinite(layer.merged_weight()).all():
            raise _validation.complain(ValueError, f"the merged weight of {name!r}", "finite", "NaN or infinity")
    for layer in layers.values():
        layer.merge()


def unmerge(model):
    """Bring back the weights from before `merge`, bit for bit.

    Parameters
    ----------
    model : torch.nn.Module
        With adapters, all of them merged.

    Raises
    ------
    ValueError
        If there is no adapter, or one is not merged; nothing is changed then.
    """
    layers = adapted_layers(model)
    for name, layer in layers.items():
        if not layer.merged:
            raise _validation.complain(
                ValueError, f"the adapter of {name!r}", "merged to be unmerged", "an unmerged one"
            )
    for layer in layers.values():
        layer.unmerge()


def unload(model, *, keep_update=False):
    """Take the adapters out, and leave the base layers.

    Parameters
    ----------
    model : torch.nn.Module
        With adapters, merged or not.
    keep_update : bool, default False
        Leave the updates in the weights, as `merge` does; otherwise the weights are those of the base, bit for bit.

    Returns
    -------
    model : torch.nn.Module
        The same object. What was frozen stays frozen.

    Raises
    ------
    ValueError
        If there is no adapter, or a weight would not be finite.
    """
    keep_update = _validation.flag(keep_update, "keep_update")
    layers = adapted_layers(model)
    merged = [layer for layer in layers.values() if layer.merged]
    if keep_update and not merged:
        merge(model)
    elif merged and not keep_update:
        for layer in merged:
            layer.unmerge()
    take_out(model)
    for module in model.modules():
        vars(module).pop("trained_with_adapter", None)
    return model


@contextlib.contextmanager
def disabled(model):
    """Within a ``with`` block, the model without its adapters, bit for bit.

    Parameters
    ----------
    model : torch.nn.Module
        With adapters, merged or not. Modules that are trained whole stay as they are.

    Raises
    ------
    ValueError
        If there is no adapter.

    Examples
    --------
    >>> import torch
    >>> from curtensor.adapters import convert_to_lora, disabled
    >>> model = convert_to_lora(torch.nn.Sequential(torch.nn.Linear(4, 4)), ["0"], rank=2, progress=False, rng=0)
    >>> with disabled(model):
    ...     y = model(torch.ones(1, 4))
    """
    layers = adapted_layers(model).values()
    before = [(layer, layer.enabled, layer.merged) for layer in layers]
    try:
        for layer, _, was_merged in before:
            layer.enabled = False
            if was_merged:
                layer.unmerge()
        yield model
    finally:
        for layer, was_enabled, was_merged in before:
            layer.enabled = was_enabled
            if was_merged:
                layer.merge()
