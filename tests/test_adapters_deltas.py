"""The algebra of the updates, as formulas say it, and which columns and rows are chosen for them."""

import copy

import numpy as np
import peft
import pytest
import torch
from adapted_models import KINDS, adapted, config, layers_of, normal, shake, trained
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn
from torch.nn.functional import linear
from torch.utils._python_dispatch import TorchDispatchMode

from curtensor.adapters import CURLoRAConfig, TCURLoRAConfig
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


def with_adapters(kind, model, **options):
    """All layers of a `Parallel` with adapters."""
    return adapted(kind, model, r"layers\.\d+", **options)


def units(model):
    """What was chosen: updates of single layers, or groups."""
    return list(model.base_model.units("default"))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", FLOATS.values(), ids=FLOATS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_output_and_gradients_are_those_of_the_updated_weight(kind, shape, dtype, bias):
    model = shake(with_adapters(kind, parallel(shape, dtype, bias)))
    for batch in [(6,), (2, 3), (2, 1, 3), (2, 1, 3, 2)]:
        x = normal((*batch, shape[1]), dtype).requires_grad_()
        parameters = [x, *trained(model)]
        y = model(x)
        by_weights = sum(
            linear(x, layer.weight + layer.get_delta_weight("default"), layer.bias) for layer in layers_of(model)
        )
        torch.testing.assert_close(y, by_weights, rtol=0, atol=500 * torch.finfo(dtype).eps)
        weight = normal(y.shape, dtype, seed=3)
        found, wanted = (torch.autograd.grad((out * weight).sum(), parameters) for out in (y, by_weights))
        for ours, theirs in zip(found, wanted, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=5000 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("kind", KINDS)
def test_trains_as_many_numbers_as_the_formula_says(kind):
    model = with_adapters(kind, parallel())
    assert model.get_nb_trainable_parameters()[0] == KINDS[kind][2](40, 24, LAYERS)


@pytest.mark.parametrize("kind", KINDS)
def test_lora_factors_multiply_to_the_update(kind):
    for layer in layers_of(shake(with_adapters(kind, parallel()))):
        B, A = layer.deltas["default"].lora_factors()
        assert_allclose((B @ A).detach(), layer.get_delta_weight("default").detach(), atol=1e-14)
        assert B.shape[1] < min(layer.weight.shape)


@pytest.mark.parametrize("kind", KINDS)
def test_peft_converts_the_update_to_lora(kind):
    model = shake(with_adapters(kind, parallel(layers=4)), 0.1)
    x = normal((5, 24), torch.float64)
    y = model(x)
    lora, state = peft.convert_to_lora(model, rank=16)
    plain = peft.get_peft_model(parallel(layers=4), lora)
    peft.set_peft_model_state_dict(plain, state)
    assert torch.linalg.norm(plain(x) - y) <= 1e-4 * torch.linalg.norm(y)


def test_updates_are_the_formulas():
    model = shake(with_adapters("tcurlora-ranks", parallel()))
    (group,) = units(model)
    update = np.einsum("abc,ma,bn,lc->lmn", *(X.detach().numpy() for X in (group.core, group.C, group.R, group.third)))
    for layer, matrix in zip(layers_of(model), update, strict=True):
        assert_allclose(layer.get_delta_weight("default").detach(), 2.0 * matrix, atol=1e-14)


def test_tubal_update_is_the_t_product():
    model = shake(with_adapters("tcurlora-tubal", parallel()))
    (group,) = units(model)
    U, L = group.core.detach().numpy(), LAYERS
    C = group.C.numpy().reshape(40, L, 4)
    R = group.R.numpy().reshape(L, 4, 24)
    for turn, layer in enumerate(layers_of(model)):
        sum_ = sum(C[:, a] @ U[:, :, b] @ R[c] for a in range(L) for b in range(L) for c in range(L)
                   if (a + b + c) % L == turn)  # fmt: skip
        assert_allclose(layer.get_delta_weight("default").detach(), sum_, atol=1e-14)


@pytest.mark.parametrize("layers", [2, 3])
def test_tubal_bases_are_orthonormal_under_the_t_product(layers):
    (group,) = units(with_adapters("tcurlora-tubal", parallel(layers=layers)))
    C = np.fft.rfft(group.C.numpy().reshape(40, layers, 4), axis=1)
    R = np.fft.rfft(group.R.numpy().reshape(layers, 4, 24), axis=0)
    for frequency in range(C.shape[1]):
        assert_allclose(C[:, frequency].conj().T @ C[:, frequency], np.eye(4), atol=1e-13)
        assert_allclose(R[frequency] @ R[frequency].conj().T, np.eye(4), atol=1e-13)


def test_mode_factors_are_the_changed_tucker_model_less_the_first_one():
    model = with_adapters("tcurlora-factors", parallel())
    (group,) = units(model)
    weights = np.stack([layer.weight.detach().numpy() for layer in layers_of(model)], axis=2)
    core = np.einsum("mnl,ma,bn,lc->abc", weights, *(X.numpy() for X in (group.C, group.R, group.third)))
    assert_allclose(group.core, core, atol=1e-13)
    shake(model)
    turned = [np.eye(r) + (B @ A).detach().numpy() for r, A, B in zip(core.shape, group.A, group.B, strict=True)]
    change = np.einsum("abc,xa,yb,zc->xyz", core, *turned) - core
    update = np.einsum("abc,ma,bn,lc->lmn", change, group.C.numpy(), group.R.numpy(), group.third.numpy())
    for layer, matrix in zip(layers_of(model), update, strict=True):
        assert_allclose(layer.get_delta_weight("default").detach(), matrix, atol=1e-12)


@pytest.mark.parametrize("method", ADAPTER_RULES)
@pytest.mark.parametrize("basis", ["orthonormal", "raw"])
def test_tcurlora_with_one_layer_is_curlora(basis, method):
    U, x = normal((5, 5), torch.float64), normal((4, 24), torch.float64)
    outputs, gradients = [], []
    for make, own in ((CURLoRAConfig, {}), (TCURLoRAConfig, {}), (TCURLoRAConfig, {"form": "tubal"})):
        options = {"basis": basis, "method": method, "scale": 1.5, "seed": 3, "r": 5}
        model = peft.get_peft_model(parallel(layers=1), make(target_modules=["0"], **options, **own))
        (p,) = trained(model)
        p.data.copy_(U.reshape(p.shape))
        outputs.append(model(x).detach())
        gradients.append(torch.autograd.grad(model(x).square().sum(), p)[0].reshape(5, 5))
    assert torch.equal(outputs[0], outputs[1]) and torch.equal(gradients[0], gradients[1])
    assert_allclose(outputs[2], outputs[0], atol=1e-12)
    assert_allclose(gradients[2], gradients[0], atol=1e-10)


@pytest.mark.parametrize("kind", ["curlora", "tcurlora", "tcurlora-ranks", "tcurlora-tubal"])
def test_every_entry_of_the_core_moves_the_output_by_its_gradient(kind):
    model = with_adapters(kind, parallel())
    x, weight = normal((6, 24), torch.float64), normal((6, 40), torch.float64, seed=4)
    for p in trained(model):
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
    model = with_adapters("curlora", parallel(layers=1), r=5, scale=1.5)
    (delta,) = units(model)
    x, weight = normal((6, 24), torch.float64), normal((6, 40), torch.float64, seed=4)
    (gradient,) = torch.autograd.grad((model(x) * weight).sum(), delta.U)
    assert_allclose(gradient, 1.5 * delta.C.T @ (weight.T @ x) @ delta.R.T, atol=1e-12)
    assert torch.linalg.norm(gradient) > 0.1


@pytest.mark.parametrize("method", ADAPTER_RULES)
def test_chosen_columns_and_rows_are_distinct_and_their_bases_orthonormal(method):
    W = parallel(layers=1).layers[0].weight.detach()
    (raw,) = units(with_adapters("curlora", parallel(layers=1), method=method, basis="raw"))
    (made,) = units(with_adapters("curlora", parallel(layers=1), method=method))
    assert len(set(raw.columns.tolist())) == len(set(raw.rows.tolist())) == 6
    assert torch.equal(raw.C, W[:, raw.columns.long()])
    assert torch.equal(raw.R, W[raw.rows.long()])
    assert_array_equal(raw.columns, made.columns)
    assert_allclose(made.C.T @ made.C, np.eye(6), atol=1e-14)
    assert_allclose(made.R @ made.R.T, np.eye(6), atol=1e-14)
    assert_allclose(made.C @ (made.C.T @ raw.C), raw.C, atol=1e-14)
    assert_allclose(raw.R @ made.R.T @ made.R, raw.R, atol=1e-14)
    assert (np.diag(made.C.T @ raw.C) > 0).all()  # the one basis of those of a QR that no processor's signs change


def test_group_bases_are_columns_and_rows_of_any_of_its_weights():
    model = with_adapters("tcurlora-ranks", parallel(), basis="raw")
    (group,) = units(model)
    weights = [layer.weight for layer in layers_of(model)]
    for position, (layer, column) in enumerate(group.columns.tolist()):
        assert torch.equal(group.C[:, position], weights[layer][:, column])
    for position, (layer, row) in enumerate(group.rows.tolist()):
        assert torch.equal(group.R[position], weights[layer][row])
    for position, (row, column) in enumerate(group.fibres.tolist()):
        assert torch.equal(group.third[:, position], torch.stack([W[row, column] for W in weights]))
    assert len(set(group.columns[:, 0].tolist())) > 1


def test_a_rule_that_sees_entries_is_given_squared_norms_along_every_mode():
    seen = []

    def largest(squared_norms, k, rng):
        seen.append(squared_norms.shape)
        return np.argsort(-squared_norms)[:k]

    with_adapters("tcurlora-ranks", parallel(), method=Rule(largest, sees="entries"))
    assert len(seen) == 3 and all(len(shape) == 1 for shape in seen)


def test_inverse_norm_prefers_small_columns():
    model = parallel(layers=1)
    model.layers[0].weight.data[:, 5:] *= 1e3
    (delta,) = units(with_adapters("curlora", model, r=5, method="inverse_norm"))
    assert sorted(delta.columns.tolist()) == [0, 1, 2, 3, 4]


def test_a_function_is_a_rule_and_its_adapter_is_saved(tmp_path):
    def last(basis, residual, k, rng):
        return np.arange(len(basis))[-k:]

    model = shake(with_adapters("curlora", parallel(layers=1), r=3, method=last))
    (delta,) = units(model)
    assert delta.columns.tolist() == [21, 22, 23]
    assert delta.rows.tolist() == [37, 38, 39]
    model.save_pretrained(tmp_path)
    x = normal((4, 24), torch.float64)
    assert torch.equal(peft.PeftModel.from_pretrained(parallel(layers=1), tmp_path)(x), model(x))


def hostile_weight(case, dtype=torch.float32):
    """Weights (48, 40) that have columns or rows which depend on each other, of rank 20 at least."""
    W = normal((48, 40), torch.float64, seed=1)
    if case == "pairs":
        W[:, 20:] = W[:, :20]
    elif case == "near pairs":
        W[:, 20:] = W[:, :20] * (1 + 1e-9 * normal((48, 20), torch.float64, seed=2))
    elif case == "multiples":
        W[:, 20:] = -3 * W[:, :20]
    elif case == "zero columns":
        W[:, 25:] = 0
    elif case == "zero rows":
        W[22:] = 0
    elif case == "low rank":
        W = normal((48, 20), torch.float64, seed=3) @ normal((20, 40), torch.float64, seed=4)
    elif case == "sums":
        W[:, 24:] = W[:, :16] + W[:, 8:24]
    return W.to(dtype)


CASES = ["pairs", "near pairs", "multiples", "zero columns", "zero rows", "low rank", "sums"]


@pytest.mark.parametrize("basis", ["orthonormal", "raw"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("method", ADAPTER_RULES)
def test_dependent_columns_are_replaced_whatever_the_rule(method, case, basis):
    base = nn.Sequential(nn.Linear(40, 48))
    base[0].weight.data = hostile_weight(case)
    model = peft.get_peft_model(base, CURLoRAConfig(r=16, target_modules=["0"], method=method, basis=basis))
    (delta,) = units(model)
    W = hostile_weight(case).double()
    for lines in (W[:, delta.columns.long()], W[delta.rows.long()].T):
        scaled = lines / torch.linalg.norm(lines, dim=0)
        assert torch.linalg.svdvals(scaled)[-1] > 1e-3
    model(normal((64, 40))).square().sum().backward()
    assert (delta.U.grad != 0).all()


@pytest.mark.parametrize("form", ["shared_core", "tubal", "mode_factors"])
@pytest.mark.parametrize("method", ADAPTER_RULES)
def test_groups_of_repeated_columns_have_independent_ones(method, form):
    base = parallel((48, 40), torch.float32, layers=2)
    for number, layer in enumerate(base.layers):
        layer.weight.data = hostile_weight("pairs") * (1 + normal((48, 1), seed=number))
    options = {"r": 12, "form": form, "method": method}
    (group,) = units(peft.get_peft_model(base, TCURLoRAConfig(target_modules=["0", "1"], **options)))
    slices = group.C.double().numpy().reshape(48, -1, 12)
    for C in np.fft.rfft(slices, axis=1).swapaxes(0, 1) if form == "tubal" else slices.swapaxes(0, 1):
        assert_allclose(C.conj().T @ C, np.eye(12), atol=1e-6)


def test_a_weight_of_too_low_a_rank_is_refused_and_the_model_is_as_it_was():
    base = nn.Sequential(nn.Linear(40, 48), nn.Linear(48, 48))
    base[0].weight.data = hostile_weight("low rank")
    before, wanted = copy.deepcopy(base.state_dict()), [p.requires_grad for p in base.parameters()]
    for make in (CURLoRAConfig, TCURLoRAConfig):
        with pytest.raises(ValueError, match=r"the weight of '0' must be of numerical rank at least 24.*got 20"):
            peft.get_peft_model(base, make(r=24, target_modules=["1", "0"]))
        assert [type(layer) for layer in base] == [nn.Linear, nn.Linear]
        assert [p.requires_grad for p in base.parameters()] == wanted
        assert all(torch.equal(before[name], tensor) for name, tensor in base.state_dict().items())


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
    model = shake(with_adapters(kind, parallel((200, 160), torch.float32)))
    x = normal((8, 160)).requires_grad_()
    with Sizes() as sizes:
        model(x).square().sum().backward()
    assert 8 * 160 <= sizes.largest < 200 * 160 / 4
    with Sizes() as sizes:  # the measure sees what it should
        layers_of(model)[0].get_delta_weight("default")
    assert sizes.largest == 200 * 160


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_trains_in_float32_and_is_loaded_equal(kind, dtype, tmp_path):
    x = normal((5, 24), dtype)
    y = parallel(dtype=dtype)(x)
    model = with_adapters(kind, parallel(dtype=dtype))
    assert torch.equal(model(x), y)
    assert {p.dtype for p in trained(model)} == {torch.float32}
    shake(model, 0.1)
    out = model(x)
    assert out.dtype == dtype
    out.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained(model))
    exact = sum(
        linear(x.double(), layer.weight.double() + layer.deltas["default"].matrix().double(), layer.bias.double())
        for layer in layers_of(model)
    )
    assert torch.linalg.norm(out - exact) <= 8 * torch.finfo(dtype).eps * torch.linalg.norm(exact)
    model.save_pretrained(tmp_path)
    for low_cpu_mem_usage in (False, True):
        options = {"low_cpu_mem_usage": low_cpu_mem_usage}
        loaded = peft.PeftModel.from_pretrained(parallel(dtype=dtype), tmp_path, **options)
        assert torch.equal(loaded(x), out)


@pytest.mark.parametrize("kind", KINDS)
def test_another_half_precision_is_no_other_base(kind, tmp_path):
    x = normal((5, 24), torch.float64)
    model = shake(with_adapters(kind, parallel()), 0.1)
    model.save_pretrained(tmp_path)
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        loaded = peft.PeftModel.from_pretrained(parallel(dtype=dtype), tmp_path)
        near = loaded(x.to(dtype)).double()
        assert torch.linalg.norm(near - model(x)) <= 16 * torch.finfo(dtype).eps * torch.linalg.norm(model(x))


def test_config_is_checked():
    for options, what in (
        ({"r": 0}, "r must be between"),
        ({"r": 2.5}, "r must be an integer"),
        ({"scale": 0}, "scale must be above 0"),
        ({"scale": float("nan")}, "scale must be above 0"),
        ({"scale": "1"}, "scale must be a number"),
        ({"basis": "other"}, "basis must be one of"),
        ({"method": "other"}, "method must be a function or one of"),
        ({"bias": "lora_only"}, "bias must be one of"),
        ({"dropout": 1.0}, "dropout must be below 1"),
        ({"dropout": -0.5}, "dropout must be above 0"),
        ({"seed": -1}, "seed must be between"),
        ({"rank_pattern": {"a": 0}}, r"rank_pattern\['a'\] must be between"),
        ({"layers_pattern": "layers"}, "layers_to_transform must be given"),
    ):
        for kind in ("curlora", "tcurlora"):
            with pytest.raises((ValueError, TypeError), match=what):
                config(kind, **options)
    for options, what in (
        ({"form": "other"}, "form must be one of"),
        ({"form": "tubal", "r": [2, 2, 2]}, "r must be an int, got"),
        ({"r": [2, 2]}, "r must be an int or three ints"),
        ({"factor_rank": 0}, "factor_rank must be between"),
    ):
        with pytest.raises((ValueError, TypeError), match=what):
            config("tcurlora", **options)
