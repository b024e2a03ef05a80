import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn
from torch.nn.functional import linear
from torch.utils._python_dispatch import TorchDispatchMode
from torch_models import KINDS, adapted, disturb, normal, trained

from curtensor.adapters import adapter_parameters, convert_to_curlora, convert_to_tcurlora, merge
from curtensor.adapters.choice import ADAPTER_RULES
from curtensor.selection import Rule

SHAPES = {"tall": (40, 24), "wide": (24, 40), "square": (30, 30)}
FLOATS = {"float32": torch.float32, "float64": torch.float64}
LAYERS = 3


class Parallel(nn.Module):
    """The sum of some layers of one shape."""

    def __init__(self, shape, dtype, bias, layers):
        super().__init__()
        m, n = shape
        self.layers = nn.ModuleList(nn.Linear(n, m, bias=bias, dtype=dtype) for _ in range(layers))
        for i, p in enumerate(self.parameters()):
            p.data = normal(p.shape, dtype, seed=i) / n**0.5

    def forward(self, x):
        return sum(layer(x) for layer in self.layers)


def parallel(shape=(40, 24), dtype=torch.float64, bias=True, layers=LAYERS):
    return Parallel(shape, dtype, bias, layers)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", FLOATS.values(), ids=FLOATS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_output_and_gradients_are_those_of_the_updated_weight(kind, shape, dtype, bias):
    model = adapted(kind, parallel(shape, dtype, bias), "all-linear")
    disturb(model)
    for batch in [(6,), (2, 3), (2, 1, 3), (2, 1, 3, 2)]:
        x = normal((*batch, shape[1]), dtype).requires_grad_()
        parameters = [x, *trained(model)]
        y = model(x)
        by_weights = sum(
            linear(x, layer.base_layer.weight + layer.delta.matrix(), layer.bias) for layer in model.layers
        )
        torch.testing.assert_close(y, by_weights, rtol=0, atol=500 * torch.finfo(dtype).eps)
        weight = normal(y.shape, dtype, seed=3)
        found, wanted = (torch.autograd.grad((out * weight).sum(), parameters) for out in (y, by_weights))
        for ours, theirs in zip(found, wanted, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=5000 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("kind", KINDS)
def test_lora_factors_multiply_to_the_update(kind):
    model = adapted(kind, parallel(), "all-linear")
    disturb(model)
    for layer in model.layers:
        B, A = layer.delta.lora_factors()
        assert_allclose((B @ A).detach(), layer.delta.matrix().detach(), atol=1e-14)
        assert B.shape[1] < min(layer.weight.shape)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", FLOATS.values(), ids=FLOATS)
def test_merged_equals_unmerged(kind, dtype):
    model = adapted(kind, parallel(dtype=dtype), "all-linear")
    disturb(model)
    x = normal((5, 24), dtype)
    y = model(x)
    merge(model)
    assert torch.linalg.norm(model(x) - y) <= 5000 * torch.finfo(dtype).eps * torch.linalg.norm(y)
    assert dtype == torch.float32 or torch.linalg.norm(model(x) - y) <= 1e-12 * torch.linalg.norm(y)


def test_updates_are_the_formulas():
    model = adapted("tcurlora-ranks", parallel(), "all-linear")
    disturb(model)
    group = model.layers[0].delta.group
    update = np.einsum("abc,ma,bn,lc->lmn", *(X.detach().numpy() for X in (group.core, group.C, group.R, group.layers)))
    for layer, matrix in zip(model.layers, update, strict=True):
        assert_allclose(layer.delta.matrix().detach(), 2.0 * matrix, atol=1e-14)


def test_tubal_update_is_the_t_product():
    model = adapted("tcurlora-tubal", parallel(), "all-linear")
    disturb(model)
    group = model.layers[0].delta.group
    U, L = group.core.detach().numpy(), LAYERS
    C = group.C.numpy().reshape(40, L, 4)
    R = group.R.numpy().reshape(L, 4, 24)
    for turn, layer in enumerate(model.layers):
        sum_ = sum(C[:, a] @ U[:, :, b] @ R[c] for a in range(L) for b in range(L) for c in range(L)
                   if (a + b + c) % L == turn)  # fmt: skip
        assert_allclose(layer.delta.matrix().detach(), sum_, atol=1e-14)


@pytest.mark.parametrize("layers", [2, 3])
def test_tubal_bases_are_orthonormal_under_the_t_product(layers):
    model = adapted("tcurlora-tubal", parallel(layers=layers), "all-linear")
    C = np.fft.rfft(model.layers[0].delta.group.C.numpy().reshape(40, layers, 4), axis=1)
    R = np.fft.rfft(model.layers[0].delta.group.R.numpy().reshape(layers, 4, 24), axis=0)
    for frequency in range(C.shape[1]):
        assert_allclose(C[:, frequency].conj().T @ C[:, frequency], np.eye(4), atol=1e-13)
        assert_allclose(R[frequency] @ R[frequency].conj().T, np.eye(4), atol=1e-13)


def test_mode_factors_are_the_changed_tucker_model_less_the_first_one():
    model = adapted("tcurlora-factors", parallel(), "all-linear")
    group = model.layers[0].delta.group
    weights = np.stack([layer.base_layer.weight.numpy() for layer in model.layers], axis=2)
    core = np.einsum("mnl,ma,bn,lc->abc", weights, *(X.numpy() for X in (group.C, group.R, group.layers)))
    assert_allclose(group.core, core, atol=1e-13)
    disturb(model)
    turned = [np.eye(r) + (B @ A).detach().numpy() for r, A, B in zip(core.shape, group.A, group.B, strict=True)]
    change = np.einsum("abc,xa,yb,zc->xyz", core, *turned) - core
    update = np.einsum("abc,ma,bn,lc->lmn", change, group.C.numpy(), group.R.numpy(), group.layers.numpy())
    for layer, matrix in zip(model.layers, update, strict=True):
        assert_allclose(layer.delta.matrix().detach(), matrix, atol=1e-12)


@pytest.mark.parametrize("method", ADAPTER_RULES)
@pytest.mark.parametrize("basis", ["orthonormal", "raw"])
def test_tcurlora_with_one_layer_is_curlora(basis, method):
    options = {"basis": basis, "method": method, "scale": 1.5, "progress": False, "rng": 3}
    alone = convert_to_curlora(parallel(layers=1), "all-linear", rank=5, **options)
    group = convert_to_tcurlora(parallel(layers=1), "all-linear", ranks=5, **options)
    tubal = convert_to_tcurlora(parallel(layers=1), "all-linear", ranks=5, form="tubal", **options)
    U = normal((5, 5), torch.float64)
    x = normal((4, 24), torch.float64)
    outputs, gradients = [], []
    for model in (alone, group, tubal):
        (p,) = adapter_parameters(model)
        p.data.copy_(U.reshape(p.shape))
        outputs.append(model(x))
        gradients.append(torch.autograd.grad(outputs[-1].square().sum(), p)[0].reshape(5, 5))
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(gradients[0], gradients[1])
    shared, delta = tubal.layers[0].delta.group, alone.layers[0].delta
    assert_array_equal(shared.columns, delta.columns)
    assert_array_equal(shared.rows, delta.rows)
    signs = torch.linalg.lstsq(delta.C, shared.C).solution, torch.linalg.lstsq(delta.R.T, shared.R.T).solution
    for turn in signs:  # QR of complex numbers may choose other signs
        assert_allclose(turn.abs(), np.eye(5), atol=1e-13)
    update = 1.5 * shared.C @ signs[0].T @ U @ signs[1] @ shared.R
    assert_allclose(update, delta.matrix().detach(), atol=1e-13)


@pytest.mark.parametrize("kind", ["curlora", "tcurlora", "tcurlora-ranks", "tcurlora-tubal"])
def test_every_entry_of_the_core_moves_the_output_by_its_gradient(kind):
    model = adapted(kind, parallel(), "all-linear")
    x = normal((6, 24), torch.float64)
    weight = normal((6, 40), torch.float64, seed=4)
    for p in adapter_parameters(model):
        (gradient,) = torch.autograd.grad((model(x) * weight).sum(), p)
        with torch.no_grad():
            base = model(x)
            for index in np.ndindex(*p.shape):
                p[index] += 1e-4
                moved = model(x) - base
                p[index] -= 1e-4
                assert torch.linalg.norm(moved) > 1e-7 * torch.linalg.norm(base)
                assert_allclose((moved * weight).sum() / 1e-4, gradient[index], rtol=1e-6, atol=1e-7)


def test_curlora_gradient_at_zero_is_that_of_the_weight_between_the_bases():
    model = convert_to_curlora(parallel(layers=1), "all-linear", rank=5, scale=1.5, progress=False, rng=0)
    layer = model.layers[0]
    x, weight = normal((6, 24), torch.float64), normal((6, 40), torch.float64, seed=4)
    (gradient,) = torch.autograd.grad((model(x) * weight).sum(), layer.delta.U)
    G = weight.T @ x
    assert_allclose(gradient, 1.5 * layer.delta.C.T @ G @ layer.delta.R.T, atol=1e-12)
    assert torch.linalg.norm(gradient) > 0.1


@pytest.mark.parametrize("method", ADAPTER_RULES)
def test_chosen_columns_and_rows_are_distinct_and_their_bases_orthonormal(method):
    W = parallel(layers=1).layers[0].weight.detach()
    options = {"rank": 6, "method": method, "progress": False, "rng": 0}
    raw = convert_to_curlora(parallel(layers=1), "all-linear", basis="raw", **options).layers[0].delta
    made = convert_to_curlora(parallel(layers=1), "all-linear", **options).layers[0].delta
    assert len(set(raw.columns.tolist())) == len(set(raw.rows.tolist())) == 6
    assert torch.equal(raw.C, W[:, raw.columns])
    assert torch.equal(raw.R, W[raw.rows])
    assert_array_equal(raw.columns, made.columns)
    assert_allclose(made.C.T @ made.C, np.eye(6), atol=1e-14)
    assert_allclose(made.R @ made.R.T, np.eye(6), atol=1e-14)
    assert_allclose(made.C @ (made.C.T @ raw.C), raw.C, atol=1e-14)
    assert_allclose(raw.R @ made.R.T @ made.R, raw.R, atol=1e-14)


def test_group_bases_are_columns_and_rows_of_any_of_its_weights():
    model = convert_to_tcurlora(parallel(), "all-linear", ranks=(7, 5, 2), basis="raw", progress=False, rng=0)
    group = model.layers[0].delta.group
    weights = [layer.base_layer.weight for layer in model.layers]
    for position, (layer, column) in enumerate(group.columns.tolist()):
        assert torch.equal(group.C[:, position], weights[layer][:, column])
    for position, (layer, row) in enumerate(group.rows.tolist()):
        assert torch.equal(group.R[position], weights[layer][row])
    for position, (row, column) in enumerate(group.fibres.tolist()):
        assert torch.equal(group.layers[:, position], torch.stack([W[row, column] for W in weights]))
    assert len(set(group.columns[:, 0].tolist())) > 1


def test_a_rule_that_sees_entries_is_given_squared_norms_along_every_mode():
    seen = []

    def largest(squared_norms, k, rng):
        seen.append(squared_norms.shape)
        return np.argsort(-squared_norms)[:k]

    rule = Rule(largest, sees="entries")
    convert_to_tcurlora(parallel(layers=3), "all-linear", ranks=(4, 4, 2), method=rule, progress=False, rng=0)
    assert len(seen) == 3 and all(len(shape) == 1 for shape in seen)


def test_inverse_norm_prefers_small_columns():
    model = parallel(layers=1)
    model.layers[0].weight.data[:, 5:] *= 1e3
    chosen = convert_to_curlora(model, "all-linear", rank=5, method="inverse_norm", progress=False, rng=0)
    assert sorted(chosen.layers[0].delta.columns.tolist()) == [0, 1, 2, 3, 4]


def test_a_function_is_a_rule():
    def last(basis, residual, k, rng):
        return np.arange(len(basis))[-k:]

    model = convert_to_curlora(parallel(layers=1), "all-linear", rank=3, method=last, progress=False, rng=0)
    assert model.layers[0].delta.columns.tolist() == [21, 22, 23]
    assert model.layers[0].delta.rows.tolist() == [37, 38, 39]


def test_residual_start_is_the_cur_of_the_weight():
    model = adapted("lora-residual", parallel(layers=1), "all-linear", rank=8)
    delta, W = model.layers[0].delta, model.layers[0].base_layer.weight
    start = delta.scale * (delta.B0 @ delta.A0)
    columns = torch.linalg.qr(start)[0][:, :8]
    assert torch.linalg.norm(W - start) < torch.linalg.norm(W)
    assert_allclose(columns.T @ (W - start) @ torch.linalg.pinv(delta.A0), np.zeros((8, 8)), atol=1e-12)
    assert_allclose(delta.B0.T @ delta.B0, delta.A0 @ delta.A0.T, atol=1e-12)


class Sizes(TorchDispatchMode):
    """Notes the largest number of new entries that any operation makes."""

    largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **kwargs or {})
        given = {t.untyped_storage().data_ptr() for t in args if isinstance(t, torch.Tensor)}
        for tensor in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage().data_ptr() not in given:
                self.largest = max(self.largest, tensor.numel())
        return out


@pytest.mark.parametrize("kind", KINDS)
def test_no_temporary_of_the_weights_size_in_forward_or_backward(kind):
    model = adapted(kind, parallel((200, 160), torch.float32), "all-linear")
    disturb(model)
    x = normal((8, 160)).requires_grad_()
    with Sizes() as sizes:
        model(x).square().sum().backward()
    assert 8 * 160 <= sizes.largest < 200 * 160 / 4
    with Sizes() as sizes:  # the measure sees what it should
        model.layers[0].delta.matrix()
    assert sizes.largest == 200 * 160


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_trains_in_float32(kind, dtype):
    base = parallel(dtype=dtype)
    x = normal((5, 24), dtype)
    y = base(x)
    model = adapted(kind, base, "all-linear")
    assert torch.equal(model(x), y)
    assert {p.dtype for p in trained(model)} == {torch.float32}
    disturb(model, 0.1)
    out = model(x)
    assert out.dtype == dtype
    for layer in model.layers:
        assert layer.weight.dtype == dtype
    out.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained(model))
    exact = sum(
        linear(x.double(), layer.base_layer.weight.double() + layer.delta.matrix().double(), layer.bias.double())
        for layer in model.layers
    )
    assert torch.linalg.norm(out - exact) <= 8 * torch.finfo(dtype).eps * torch.linalg.norm(exact)
