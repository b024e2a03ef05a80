"""Small models, every kind of adapter with its number of trained parameters, and what the torch tests measure."""

from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.functional import gelu

from curtensor.adapters import convert_to_adalora, convert_to_curlora, convert_to_lora, convert_to_tcurlora


class Block(nn.Module):
    """Square, wide and tall layers, one without a bias, with names of which one is the start of another."""

    def __init__(self, width=24, hidden=40):
        super().__init__()
        self.query = nn.Linear(width, width)
        self.fc1 = nn.Linear(width, hidden)
        self.fc10 = nn.Linear(hidden, width, bias=False)

    def forward(self, x):
        return x + self.fc10(gelu(self.fc1(self.query(x))))


class Stack(nn.Module):
    """Some blocks and a head."""

    def __init__(self, depth=3, width=24, hidden=40):
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, hidden) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 8)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def stack(dtype=torch.float32, seed=0, **sizes):
    """A `Stack` with seeded weights, which leaves torch's random state alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Stack(**sizes).to(dtype)


# name: (conversion, options, number of parameters trained for L weights (m, n))
KINDS = {
    "lora": (convert_to_lora, {"rank": 4}, lambda m, n, L: 4 * (m + n) * L),
    "lora-cur": (convert_to_lora, {"rank": 4, "init": "cur"}, lambda m, n, L: 4 * (m + n) * L),
    "lora-residual": (convert_to_lora, {"rank": 4, "init": "cur_residual"}, lambda m, n, L: 4 * (m + n) * L),
    "curlora": (convert_to_curlora, {"rank": 6}, lambda m, n, L: 36 * L),
    "curlora-raw": (
        convert_to_curlora,
        {"rank": 6, "basis": "raw", "method": "inverse_norm", "scale": 0.5},
        lambda m, n, L: 36 * L,
    ),
    "adalora": (convert_to_adalora, {"rank": 5}, lambda m, n, L: 5 * (m + n + 1) * L),
    "tcurlora": (convert_to_tcurlora, {"ranks": 6}, lambda m, n, L: 36 * L),
    "tcurlora-ranks": (convert_to_tcurlora, {"ranks": (7, 5, 2), "scale": 2.0}, lambda m, n, L: 70),
    "tcurlora-tubal": (convert_to_tcurlora, {"ranks": 4, "form": "tubal"}, lambda m, n, L: 16 * L),
    "tcurlora-factors": (
        convert_to_tcurlora,
        {"ranks": (7, 5, 2), "form": "mode_factors", "factor_rank": 3},
        lambda m, n, L: 2 * (3 * 7 + 3 * 5 + 2 * 2),
    ),
}


def adapted(kind, model, targets, **options):
    """The model with adapters of a kind of `KINDS`."""
    conversion, own, _ = KINDS[kind]
    return conversion(model, targets, progress=False, **{"rng": 0} | own | options)


def trained(model):
    """Parameters that are trained."""
    return [p for p in model.parameters() if p.requires_grad]


@torch.no_grad()
def disturb(model, size=0.3, seed=1):
    """Random changes to what is trained, so that the updates are no longer zero."""
    generator = torch.Generator().manual_seed(seed)
    for p in trained(model):
        p.add_(size * torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p))


def normal(shape, dtype=torch.float32, seed=2):
    """Seeded standard normal numbers."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def snapshot(model):
    """All that a failed call must leave as it was."""
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return state, [p.requires_grad for p in model.parameters()], {n: (m, m.training) for n, m in model.named_modules()}


@contextmanager
def untouched(model):
    """Assert that a block leaves a model exactly as it was."""
    state, gradients, modules = snapshot(model)
    yield
    state_after, gradients_after, modules_after = snapshot(model)
    assert list(state) == list(state_after)
    assert all(torch.equal(state[name], state_after[name]) or state[name].isnan().any() for name in state)
    assert gradients == gradients_after
    assert modules == modules_after
