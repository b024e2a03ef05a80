import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch_models import adapted, disturb, normal, stack, trained

from curtensor.adapters import (
    RankAllocator,
    convert_to_adalora,
    orthogonality_penalty,
)
from curtensor.adapters.linear import adapted_layers


def adalora(rank=6, dtype=torch.float64):
    return convert_to_adalora(stack(dtype), ["query", "fc1"], rank=rank, progress=False, rng=0)


def test_penalty_is_zero_at_the_start_and_its_formula_later():
    model = adalora()
    assert orthogonality_penalty(model) < 1e-24
    disturb(model)
    wanted = 0
    for layer in adapted_layers(model).values():
        P, Q = layer.delta.P.detach().numpy(), layer.delta.Q.detach().numpy()
        wanted += np.linalg.norm(P.T @ P - np.eye(6)) ** 2 + np.linalg.norm(Q @ Q.T - np.eye(6)) ** 2
    assert_allclose(orthogonality_penalty(model).item(), wanted)
    orthogonality_penalty(model).backward()
    assert model.blocks[0].query.delta.P.grad.any()


def test_budget_stays_falls_by_a_cubic_and_stays_again():
    allocator = RankAllocator(adalora(), 2, 100, warmup_steps=10, final_steps=20)
    budgets = [allocator.budget(t) for t in range(1, 101)]
    assert budgets[:10] == [36] * 10
    assert budgets[79:] == [12] * 21
    assert budgets == sorted(budgets, reverse=True)
    assert_allclose(budgets[44], 12 + 24 * 0.5**3)


def naive_importance(gradients, parameters, betas):
    """Sensitivity times deviation, by the recurrences of the paper."""
    sensitivity = deviation = 0
    for w, g in zip(parameters, gradients, strict=True):
        now = abs(w * g)
        sensitivity = betas[0] * sensitivity + (1 - betas[0]) * now
        deviation = betas[1] * deviation + (1 - betas[1]) * abs(now - sensitivity)
    return sensitivity * deviation


def test_the_most_important_triplets_by_the_papers_formula_are_kept():
    model = adalora()
    disturb(model, 0.1)
    betas = 0.7, 0.6
    allocator = RankAllocator(model, 2, 4, warmup_steps=3, final_steps=1, betas=betas)
    layers = adapted_layers(model)
    values, gradients = ({name: {"P": [], "e": [], "Q": []} for name in layers} for _ in range(2))
    for t in range(1, 5):
        disturb(model, 0.05, seed=t)
        model.zero_grad()
        model(normal((6, 24), torch.float64, seed=t)).square().sum().backward()
        for name, layer in layers.items():
            for part in "PeQ":
                p = getattr(layer.delta, part)
                values[name][part].append(p.detach().numpy().copy())
                gradients[name][part].append(p.grad.numpy().copy())
        assert allocator.step(t) == (36 if t < 4 else 12)
        assert sum(int((layer.delta.e != 0).sum()) for layer in layers.values()) == (36 if t < 4 else 12)
    scores = {}
    for name in layers:
        parts = {part: naive_importance(gradients[name][part], values[name][part], betas) for part in "PeQ"}
        for i in range(6):
            scores[name, i] = parts["e"][i] + parts["P"][:, i].mean() + parts["Q"][i].mean()
    best = set(sorted(scores, key=scores.get)[-12:])
    assert best == {(name, i) for name, layer in layers.items() for i in range(6) if layer.delta.e[i] != 0}


def test_a_pruned_triplet_can_come_back_until_the_budget_is_final():
    model = adalora()
    allocator = RankAllocator(model, 2, 40, warmup_steps=2, final_steps=10)
    deltas = [layer.delta for layer in adapted_layers(model).values()]
    kept = []
    for t in range(1, 41):
        favoured = (0, 1) if t < 20 or t >= 32 else (4, 5)
        for delta in deltas:
            delta.e.data.fill_(1)
            delta.P.grad, delta.Q.grad = torch.zeros_like(delta.P), torch.zeros_like(delta.Q)
            delta.e.grad = torch.full_like(delta.e, 0.01)
            delta.e.grad[list(favoured)] = 1 + 0.1 * (t % 3)
        budget = allocator.step(t)
        kept.append([tuple(np.flatnonzero(delta.e.detach()).tolist()) for delta in deltas])
        assert sum(map(len, kept[-1])) == budget
    assert all({0, 1} <= set(layer) and 5 not in layer for layer in kept[18])
    assert kept[29:] == [[(4, 5)] * 6] * 11


def test_an_interval_changes_the_mask_only_then():
    model = adalora()
    allocator = RankAllocator(model, 2, 40, warmup_steps=0, final_steps=10, interval=7)
    counts = []
    for t in range(1, 41):
        disturb(model, 0.1, seed=t)
        model.zero_grad()
        model(normal((6, 24), torch.float64, seed=t)).square().sum().backward()
        allocator.step(t)
        counts.append(sum(int((layer.delta.e != 0).sum()) for layer in adapted_layers(model).values()))
    changes = [t for t in range(2, 41) if counts[t - 1] != counts[t - 2]]
    assert set(changes) <= {7, 14, 21, 28, 30}
    assert len(changes) >= 3
    assert counts[-1] == 12


BAD_ALLOCATION = {
    "no AdaLoRA": (lambda: RankAllocator(adapted("lora", stack(), ["fc1"]), 2, 10), "AdaLoRA adapters, got none"),
    "no adapters": (lambda: RankAllocator(stack(), 2, 10), "with adapters"),
    "target above the rank": (lambda: RankAllocator(adalora(), 7, 10), "target_rank must be between 1 and 6, got 7"),
    "no steps": (lambda: RankAllocator(adalora(), 2, 0), "total_steps"),
    "phases too long": (lambda: RankAllocator(adalora(), 2, 10, warmup_steps=6, final_steps=6), "final_steps"),
    "beta of one": (lambda: RankAllocator(adalora(), 2, 10, betas=(0.5, 1)), "each of betas must be below 1"),
    "step zero": (lambda: RankAllocator(adalora(), 2, 10).step(0), "t must be between 1"),
    "no gradient": (lambda: RankAllocator(adalora(), 2, 10).step(1), "must be one whose adapters all have gradients"),
    "penalty without AdaLoRA": (lambda: orthogonality_penalty(adapted("lora", stack(), ["fc1"])), "AdaLoRA adapters"),
}


@pytest.mark.parametrize("wrong", BAD_ALLOCATION)
def test_bad_allocation_is_refused(wrong):
    call, message = BAD_ALLOCATION[wrong]
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("kind", ["lora", "curlora", "tcurlora", "tcurlora-tubal", "tcurlora-factors", "adalora"])
def test_training_lowers_the_loss_towards_another_models(kind):
    target = adapted(kind, stack(torch.float64), ["query", "fc1"])
    disturb(target, 0.1)
    model = adapted(kind, stack(torch.float64), ["query", "fc1"])
    optimizer = torch.optim.Adam(trained(model), lr=1e-2)
    x = normal((128, 24), torch.float64)
    wanted = target(x).detach()
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        losses.append((model(x) - wanted).square().mean())
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]
