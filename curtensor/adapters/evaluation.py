"""How good a model's predictions are."""

import copy
import inspect
import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

from curtensor import _validation

IGNORED = -100  # torch's and transformers' label that does not count
EXACT, HALF = 1e-4, 2e-2  # how far a loss may be from the model's own, relative to it; where there is half precision


@torch.inference_mode()
def evaluate_model(model, dataloader, *, metrics=None, loss=None, predict=None):
    """Mean loss and metrics of a model over a data loader, without a trace in the model.

    Parameters
    ----------
    model : torch.nn.Module
        Gives logits, alone or as ``logits`` of an object or a dict. Where it computes a ``loss``, that is the loss.
    dataloader : iterable
        Batches: dicts of what the model takes, or pairs of inputs (a tensor or a dict) and labels. ``labels`` go to
        every model whose ``forward`` takes them; those of -100 do not count.
    metrics : mapping of str to callable, optional
        Metrics of torchmetrics, which are copied, or functions of the predictions and labels of the whole set. By
        default "accuracy" where labels are classes, else none.
    loss : callable, optional
        Takes logits and labels of a batch and gives their mean loss, in place of the model's own.
    predict : callable, optional
        Takes the logits of the labels that count, shape (labels, classes), and gives what metrics take as predictions.
        By default the likeliest class; 1 where a logit of several labels is positive; the outputs of a regression.

    Returns
    -------
    results : dict of str to float
        "loss", the mean over all labels that count, and the metrics; of several numbers, a list.

    Raises
    ------
    TypeError, ValueError
        If a batch or an output has no known form, no label counts, there is NaN, or labels can be read in two ways.

    Notes
    -----
    What the labels are of the logits (classes on the last axis or on axis 1, the next token's class, several labels of
    0 and 1, a regression) is found from the first batch: the reading whose loss is the model's own. Where none is, a
    smoothed loss say, there is nothing that metrics could be given. Without a loss, integers are classes and floats a
    regression.

    Examples
    --------
    >>> import torch
    >>> from curtensor.adapters import evaluate_model
    >>> batches = [(torch.eye(2), torch.tensor([0, 1])), (torch.eye(2)[:1], torch.tensor([1]))]
    >>> round(evaluate_model(torch.nn.Identity(), batches)["accuracy"], 4)
    0.6667
    """
    metrics = None if metrics is None else dict(metrics.items())
    if metrics and "loss" in metrics:
        raise _validation.complain(ValueError, "metrics", "of other names than 'loss'", list(metrics))
    training = {module: module.training for module in model.modules()}
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    total, count, reading, predictions, targets = 0.0, 0, None, [], []
    try:
        model.eval()
        for batch in dataloader:
            outputs, labels = call(model, to_device(batch, device))
            logits, own = scores_of(outputs, labels, loss)
            if count == 0:
                reading = find_reading(logits, labels, own)
            scored = None if reading is None else reading(logits, labels)
            if scored is None and reading is not None:
                raise unfitting(logits, labels, "numbers of classes, or as many as outputs")
            size = sample_count(outputs, labels) if scored is None else scored[2].numel()
            if size == 0:
                continue
            mean = scored[0] if own is None else own
            not_nan(mean, "the loss")
            total += float(mean) * size
            count += size
            if scored is not None:
                not_nan(scored[1], "the logits")
                predictions.append((predict or READINGS[reading])(scored[1]).cpu())
                targets.append(scored[2].cpu())
    finally:
        for module, flag in training.items():
            module.training = flag
    if count == 0:
        raise _validation.complain(ValueError, "dataloader", "one with labels that count", "none")
    if metrics is None:
        metrics = {"accuracy": accuracy} if READINGS.get(reading) is likeliest else {}
    if not metrics:
        return {"loss": total / count}
    if reading is None:
        what = "None where the model's loss is none that its logits and labels give"
        raise _validation.complain(ValueError, "metrics", what, list(metrics))
    found = {name: fresh(metric)(torch.cat(predictions), torch.cat(targets)) for name, metric in metrics.items()}
    return {"loss": total / count} | {name: torch.as_tensor(value).double().tolist() for name, value in found.items()}


def accuracy(predictions, labels):
    """Fraction of predictions that equal their labels."""
    return (predictions == labels).double().mean()


def fresh(metric):
    """A metric with nothing in it yet: an object's copy; a function as it is."""
    if hasattr(metric, "reset"):
        metric = copy.deepcopy(metric).cpu()
        metric.reset()
    return metric


def to_device(batch, device):
    """All tensors of a batch on a device."""
    if isinstance(batch, Mapping):
        return {name: to_device(value, device) for name, value in batch.items()}
    if isinstance(batch, (tuple, list)):
        return [to_device(value, device) for value in batch]
    return batch.to(device) if isinstance(batch, torch.Tensor) else batch


def call(model, batch):
    """What the model gives for a batch, and the batch's labels, None where a dict has none of that name."""
    if isinstance(batch, Mapping):
        inputs, labels = {name: value for name, value in batch.items() if name != "labels"}, batch.get("labels")
    elif isinstance(batch, list) and len(batch) == 2:
        inputs, labels = batch
    else:
        raise _validation.complain(TypeError, "each batch", "a pair or a dict", type(batch).__name__)
    labels = None if labels is None else torch.as_tensor(labels)
    positional, keywords = ((), inputs) if isinstance(inputs, Mapping) else ((inputs,), {})
    taken = forward_parameters(model)
    whatever = isinstance(batch, Mapping) and any(p.kind is p.VAR_KEYWORD for p in taken.values())
    if labels is not None and ("labels" in taken or whatever):
        keywords = {**keywords, "labels": labels}
    return model(*positional, **keywords), labels


def forward_parameters(model):
    """The arguments of the model beneath what PEFT, a compiler or a parallel wrapper puts around it."""
    while True:
        if hasattr(model, "get_base_model"):
            model = model.get_base_model()
        elif hasattr(model, "_orig_mod"):
            model = model._orig_mod
        elif isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        else:
            return inspect.signature(model.forward).parameters


def scores_of(outputs, labels, loss):
    """Logits and the mean loss of a batch, by the given function or the model itself; None for what there is not."""
    if isinstance(outputs, torch.Tensor):
        logits, found = outputs, None
    elif isinstance(outputs, Mapping):
        logits, found = outputs.get("logits"), outputs.get("loss")
    else:
        logits, found = getattr(outputs, "logits", None), getattr(outputs, "loss", None)
    logits = logits if isinstance(logits, torch.Tensor) else None
    if logits is None and found is None:
        what = "a tensor or one with logits or a loss"
        raise _validation.complain(TypeError, "the model's output", what, type(outputs).__name__)
    found = found if loss is None else torch.as_tensor(loss(logits, labels))
    if found is None and labels is None:
        raise _validation.complain(TypeError, "each batch", "a pair or a dict with 'labels'", "neither, nor a loss")
    if found is not None and found.numel() != 1:
        raise _validation.complain(ValueError, "the loss", "a single number", f"shape {tuple(found.shape)}")
    return logits, found


def sample_count(outputs, labels):
    """The labels that count, or where there are none the samples."""
    if labels is not None:
        return int((labels != IGNORED).sum())
    values = outputs.values() if isinstance(outputs, Mapping) else vars(outputs).values()
    return next((len(value) for value in values if isinstance(value, torch.Tensor) and value.ndim), 1)


def not_nan(values, name):
    """Raise if there is NaN."""
    if torch.isnan(values).any():
        raise _validation.complain(ValueError, name, "free of NaN", "NaN")


# What the labels are of the logits: a reading gives the mean loss, and the logits (labels, ...) and labels that count,
# or None where it does not fit.


def classes(logits, labels):
    """Classes on the last axis, two at least: the cross entropy."""
    if labels.is_floating_point() or labels.dtype == torch.bool or logits.shape[:-1] != labels.shape:
        return None
    counts = labels != IGNORED
    logits, labels = logits[counts].float(), labels[counts].long()
    if logits.shape[-1] < 2 or ((labels < 0) | (labels >= logits.shape[-1])).any():
        return None
    return F.cross_entropy(logits, labels), logits, labels


def classes_on_axis_1(logits, labels):
    """Classes on axis 1 of three or more, as torch has them."""
    return classes(logits.movedim(1, -1), labels) if logits.ndim > 2 else None


def next_classes(logits, labels):
    """The class that comes next in a sequence."""
    whole = logits.ndim > 2 and logits.shape[:-1] == labels.shape
    return classes(logits[..., :-1, :], labels[..., 1:]) if whole else None


def zeros_and_ones(logits, labels):
    """Several labels of 0 and 1: the binary cross entropy."""
    if logits.shape != labels.shape or not ((labels == 0) | (labels == 1)).all():
        return None
    logits = logits.float()
    return F.binary_cross_entropy_with_logits(logits, labels.float()), logits, labels.long()


def regression(outputs, labels):
    """Numbers: the mean squared error."""
    if outputs.shape not in (labels.shape, (*labels.shape, 1)):
        return None
    outputs, labels = outputs.float().flatten(), labels.float().flatten()
    not_nan(labels, "labels")
    return F.mse_loss(outputs, labels), outputs, labels


def likeliest(logits):
    """The class of the largest logit."""
    return logits.argmax(dim=-1)


READINGS = {  # each reading, and what it predicts
    classes: likeliest,
    classes_on_axis_1: likeliest,
    next_classes: likeliest,
    zeros_and_ones: lambda logits: (logits > 0).long(),
    regression: lambda outputs: outputs,
}


def find_reading(logits, labels, own):
    """The reading whose loss is the model's own; without a loss, the only one there is."""
    if logits is None or labels is None:
        return None
    found = {reading: scored for reading in READINGS if (scored := reading(logits, labels)) is not None}
    if own is not None:
        away = {reading: distance(float(scored[0]), float(own)) for reading, scored in found.items()}
        nearest = min(away, key=away.__getitem__, default=None)
        exact = logits.dtype == own.dtype and own.dtype.itemsize >= 4
        return nearest if away.get(nearest, 0.0) <= (EXACT if exact else HALF) else None
    floats = labels.is_floating_point() or labels.dtype == torch.bool
    likely = (zeros_and_ones, regression) if floats else (classes, classes_on_axis_1)
    fitting = [reading for reading in likely if reading in found]
    if fitting == [zeros_and_ones, regression] and labels[:1].numel() == 1:
        return regression
    if len(fitting) == 2:
        raise unfitting(logits, labels, "such as can be read in one way alone without `loss`")
    if not fitting:
        raise unfitting(logits, labels, "numbers of classes, or as many as outputs")
    return fitting[0]


def unfitting(logits, labels, what):
    """The complaint about labels that cannot be read."""
    got = f"{labels.dtype} of shape {tuple(labels.shape)} for logits of shape {tuple(logits.shape)}"
    return _validation.complain(ValueError, "labels", what, got)


def distance(loss, own):
    """How far a loss is from the model's own, relative to it; both are NaN where no label counts."""
    if math.isnan(loss) or math.isnan(own):
        return 0.0 if math.isnan(loss) and math.isnan(own) else math.inf
    return 0.0 if loss == own else abs(loss - own) / (abs(own) or 1.0)
