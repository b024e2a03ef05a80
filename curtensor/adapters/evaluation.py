"""What a model's parameters number, and how good its predictions are."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F

from curtensor import _validation
from curtensor.adapters.linear import adapted_layers


def adapter_parameters(model):
    """The trained numbers of the adapters, for an optimiser; not those of modules trained whole.

    Parameters
    ----------
    model : torch.nn.Module
        With adapters.

    Returns
    -------
    parameters : list of torch.nn.Parameter
        Each once.

    Raises
    ------
    ValueError
        If there is no adapter.
    """
    found = {id(p): p for layer in adapted_layers(model).values() for p in layer.delta.parameters()}
    return list(found.values())


def count_parameters(model):
    """Numbers that are trained, and all numbers, frozen factors not counted.

    Parameters
    ----------
    model : torch.nn.Module
        With or without adapters.

    Returns
    -------
    trainable, total : int
        Parameters shared by several modules count once.
    """
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(size for size, trained in sizes if trained), sum(size for size, _ in sizes)


def print_trainable_parameters(model):
    """Print `count_parameters` in the words of PEFT.

    Parameters
    ----------
    model : torch.nn.Module
        With or without adapters.

    Examples
    --------
    >>> import torch
    >>> from curtensor.adapters import print_trainable_parameters
    >>> print_trainable_parameters(torch.nn.Linear(9, 10))
    trainable params: 100 || all params: 100 || trainable%: 100.0000
    """
    trainable, total = count_parameters(model)
    print(f"trainable params: {trainable:,d} || all params: {total:,d} || trainable%: {100 * trainable / total:.4f}")


@torch.inference_mode()
def evaluate_model(model, dataloader, *, metrics=None):
    """Mean loss and metrics of a model over a data loader, without a trace in the model.

    Parameters
    ----------
    model : torch.nn.Module
        Called with the keywords of a dict, or with the first of a pair. It gives logits (batch, ..., classes), alone or
        as ``logits`` of an object or a dict.
    dataloader : iterable
        Batches: pairs of inputs and labels, where inputs are a tensor or a dict, or dicts with ``labels``. Labels are
        integers, or floats for a regression; they do not go to the model.
    metrics : mapping of str to callable, optional
        Functions of the predictions and labels of the whole set, both flat, to a number. Predictions are the classes
        of the largest logits, or the outputs of a regression. Accuracy by default, for integer labels.

    Returns
    -------
    results : dict of str to float
        The metrics by name, and "loss": the mean over all labels that count, whatever the batches' sizes.

    Raises
    ------
    TypeError
        If a batch or the model's output has no known form.
    ValueError
        If no label counts.

    Notes
    -----
    In evaluation and inference mode; the training flags of all modules are as before afterwards, also after an error.
    Labels of -100 do not count. The loss is the cross entropy of the logits, or the mean squared error of float
    labels.

    Examples
    --------
    >>> import torch
    >>> from curtensor.adapters import evaluate_model
    >>> batches = [(torch.eye(2), torch.tensor([0, 1])), (torch.eye(2)[:1], torch.tensor([1]))]
    >>> round(evaluate_model(torch.nn.Identity(), batches)["accuracy"], 4)
    0.6667
    """
    training = {module: module.training for module in model.modules()}
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    total, predictions, targets = 0.0, [], []
    try:
        model.eval()
        for batch in dataloader:
            inputs, labels = inputs_and_labels(to_device(batch, device))
            outputs = logits_of(model(**inputs) if isinstance(inputs, Mapping) else model(inputs))
            losses, predicted, labels = scored(outputs, labels)
            total += float(losses.double().sum())
            predictions.append(predicted.cpu())
            targets.append(labels.cpu())
    finally:
        for module, flag in training.items():
            module.training = flag
    count = sum(map(len, targets))
    if count == 0:
        raise _validation.complain(ValueError, "dataloader", "one with labels that count", "none")
    predictions, targets = torch.cat(predictions), torch.cat(targets)
    if metrics is None:
        metrics = {} if targets.is_floating_point() else {"accuracy": accuracy}
    return {"loss": total / count} | {name: float(metric(predictions, targets)) for name, metric in metrics.items()}


def accuracy(predictions, labels):
    """Fraction of predictions that equal their labels."""
    return (predictions == labels).double().mean()


def to_device(batch, device):
    """All tensors of a batch on a device."""
    if isinstance(batch, torch.Tensor):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {name: to_device(value, device) for name, value in batch.items()}
    if isinstance(batch, (tuple, list)):
        return [to_device(value, device) for value in batch]
    return batch


def inputs_and_labels(batch):
    """What the model is called with, and the labels."""
    if isinstance(batch, list) and len(batch) == 2:
        return batch
    if isinstance(batch, Mapping) and "labels" in batch:
        return {name: value for name, value in batch.items() if name != "labels"}, batch["labels"]
    raise _validation.complain(TypeError, "each batch", "a pair or a dict with 'labels'", type(batch).__name__)


def logits_of(outputs):
    """The logits out of what a model returns."""
    if isinstance(outputs, Mapping) and "logits" in outputs:
        return outputs["logits"]
    if isinstance(outputs, torch.Tensor):
        return outputs
    if hasattr(outputs, "logits"):
        return outputs.logits
    raise _validation.complain(TypeError, "the model's output", "a tensor or one with logits", type(outputs).__name__)


def scored(outputs, labels):
    """Losses, predictions and labels of those that count, flat."""
    if labels.is_floating_point():
        outputs, labels = outputs.float().flatten(), labels.float().flatten()
        return (outputs - labels) ** 2, outputs, labels
    counts = labels.flatten() != -100
    logits, labels = outputs.float().flatten(0, -2)[counts], labels.flatten()[counts]
    return F.cross_entropy(logits, labels, reduction="none"), logits.argmax(dim=-1), labels
