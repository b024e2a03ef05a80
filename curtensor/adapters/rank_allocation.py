"""AdaLoRA's budget: which singular triplets of which layers are kept (Zhang and others 2023)."""

import torch

from curtensor import _validation
from curtensor.adapters.deltas import AdaLoRA
from curtensor.adapters.linear import adapted_layers


def orthogonality_penalty(model):
    """``||P^T P - I||_F^2 + ||Q Q^T - I||_F^2``, summed over the AdaLoRA layers of a model.

    Add a multiple of it, 0.1 say, to the loss. It is zero, up to rounding, right after `convert_to_adalora`.

    Parameters
    ----------
    model : torch.nn.Module
        With AdaLoRA adapters.

    Returns
    -------
    penalty : torch.Tensor
        A scalar that carries gradients.

    Raises
    ------
    ValueError
        If the model has no AdaLoRA adapter.

    Notes
    -----
    2 (m + n) r^2 operations a layer.

    References
    ----------
    .. [1] Q. Zhang and others, "AdaLoRA: Adaptive budget allocation for parameter-efficient fine-tuning", 2023,
       arXiv:2303.10512, equation (4).
    """
    total = 0.0
    for delta in adalora_deltas(model).values():
        eye = torch.eye(len(delta.e), dtype=delta.P.dtype, device=delta.P.device)
        total = total + (delta.P.T @ delta.P - eye).square().sum() + (delta.Q @ delta.Q.T - eye).square().sum()
    return total


class RankAllocator:
    """Takes the number of triplets of an AdaLoRA model down to a budget while it trains.

    Call ``step(t)`` after each optimiser step t = 1, 2, ..., before the gradients are zeroed. The importance of a
    triplet (P[:, i], e[i], Q[i]) is that of e[i] plus the means of those of P[:, i] and Q[i]; that of a number w is
    its smoothed sensitivity ``|w dL/dw|`` times the smoothed deviation from that. All but the most important triplets
    have their e set to zero; those can come back as long as the budget is not final.

    Parameters
    ----------
    model : torch.nn.Module
        With AdaLoRA adapters.
    target_rank : int
        Mean rank of a layer in the end, at least 1 and at most the mean rank now.
    total_steps : int
        Number of optimiser steps in all.
    warmup_steps : int, optional
        Steps at first with all triplets; a tenth of `total_steps` by default.
    final_steps : int, optional
        Steps at last with the triplets fixed; three tenths of `total_steps` by default.
    interval : int, default 1
        Steps between changes of the mask.
    betas : pair of float, default (0.85, 0.85)
        How slowly sensitivity and deviation change, above 0 and below 1.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If the model has no AdaLoRA adapter or a number is out of range.

    Notes
    -----
    Between warm-up and final phase the budget falls from the first to the last by a cubic, so that most triplets go
    early. Two numbers are held for each trained one.

    References
    ----------
    .. [1] Q. Zhang and others, "AdaLoRA: Adaptive budget allocation for parameter-efficient fine-tuning", 2023,
       arXiv:2303.10512, equations (7) to (12).

    Examples
    --------
    >>> import torch
    >>> from curtensor.adapters import RankAllocator, convert_to_adalora
    >>> model = convert_to_adalora(torch.nn.Sequential(torch.nn.Linear(9, 9)), ["0"], rank=4, progress=False, rng=0)
    >>> allocator = RankAllocator(model, 2, 10)
    >>> [allocator.budget(t) for t in range(1, 11)]
    [4, 3, 3, 2, 2, 2, 2, 2, 2, 2]
    """

    def __init__(
        self, model, target_rank, total_steps, *, warmup_steps=None, final_steps=None, interval=1, betas=(0.85, 0.85)
    ):
        deltas = adalora_deltas(model)
        ranks = [len(delta.e) for delta in deltas.values()]
        target_rank = _validation.integer(target_rank, "target_rank", 1, sum(ranks) // len(ranks))
        total_steps = _validation.integer(total_steps, "total_steps", 1, 10**12)
        warmup_steps = total_steps // 10 if warmup_steps is None else warmup_steps
        final_steps = 3 * total_steps // 10 if final_steps is None else final_steps
        warmup_steps = _validation.integer(warmup_steps, "warmup_steps", 0, total_steps)
        final_steps = _validation.integer(final_steps, "final_steps", 0, total_steps - warmup_steps)
        interval = _validation.integer(interval, "interval", 1, total_steps)
        betas = tuple(fraction(beta, "each of betas") for beta in betas)

        self.deltas = list(deltas.values())
        self.first, self.last = sum(ranks), target_rank * len(ranks)
        self.start, self.stop = warmup_steps, total_steps - final_steps
        self.interval, self.betas = interval, betas
        self.sensitivity = [torch.zeros_like(p) for delta in self.deltas for p in trained(delta)]
        self.deviation = [torch.zeros_like(s) for s in self.sensitivity]
        self.kept, self.settled = None, False

    def budget(self, t):
        """Number of triplets in all at step t."""
        if t <= self.start:
            return self.first
        if t >= self.stop:
            return self.last
        left = 1 - (t - self.start) / (self.stop - self.start)
        return round(self.last + (self.first - self.last) * left**3)

    @torch.no_grad()
    def step(self, t):
        """Take in the gradients of step t, and set e to zero where the budget leaves no room.

        Parameters
        ----------
        t : int
            Number of the optimiser step, from 1.

        Returns
        -------
        budget : int
            Number of triplets kept in all.

        Raises
        ------
        ValueError
            If t is out of range, or a parameter has no gradient.
        """
        t = _validation.integer(t, "t", 1, 10**12)
        budget = self.budget(t)
        if not self.settled:
            self.take_in_gradients()
            if t > self.start and (t % self.interval == 0 or t >= self.stop):
                self.kept = self.most_important(budget)
                self.settled = t >= self.stop
        if self.kept is not None:
            for delta, kept in zip(self.deltas, self.kept, strict=True):
                delta.e.mul_(kept)
        return budget

    def take_in_gradients(self):
        """Update the smoothed sensitivities and deviations."""
        slow, steady = self.betas
        parameters = [p for delta in self.deltas for p in trained(delta)]
        if any(p.grad is None for p in parameters):
            raise _validation.complain(ValueError, "the model", "one whose adapters all have gradients", "one without")
        for p, sensitivity, deviation in zip(parameters, self.sensitivity, self.deviation, strict=True):
            now = (p * p.grad).abs()
            sensitivity.lerp_(now, 1 - slow)
            deviation.lerp_((now - sensitivity).abs(), 1 - steady)

    def most_important(self, budget):
        """For each layer which triplets are among the most important ones of all, as 0 and 1."""
        products = [s * d for s, d in zip(self.sensitivity, self.deviation, strict=True)]
        scores = [
            e + P.mean(dim=0) + Q.mean(dim=1)
            for P, e, Q in zip(products[::3], products[1::3], products[2::3], strict=True)
        ]
        everything = torch.cat([score.double().cpu() for score in scores])
        best = torch.zeros_like(everything)
        best[everything.argsort(descending=True, stable=True)[:budget]] = 1
        pieces = best.split([len(score) for score in scores])
        return [piece.to(score) for piece, score in zip(pieces, scores, strict=True)]


def trained(delta):
    """P, e, Q."""
    return delta.P, delta.e, delta.Q


def adalora_deltas(model):
    """The AdaLoRA deltas of a model by layer; at least one."""
    found = {n: layer.delta for n, layer in adapted_layers(model).items() if isinstance(layer.delta, AdaLoRA)}
    if not found:
        raise _validation.complain(ValueError, "model", "one with AdaLoRA adapters", "none")
    return found


def fraction(value, name):
    """A float above 0 and below 1."""
    value = _validation.positive(value, name)
    if value >= 1:
        raise _validation.complain(ValueError, name, "below 1", value)
    return value
