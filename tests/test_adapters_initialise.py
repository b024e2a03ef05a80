"""Starts of PEFT's LoRA and AdaLoRA out of the weights' rows and columns."""

import adapted_models as models
import numpy as np
import peft
import pytest
import torch
from torch import nn
from torch_models import disturb, normal, stack, untouched

from curtensor.adapters import initialize_lora_cur_weights, merge, unload

TARGETS = ["query", "fc1", "fc10"]
pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning", "ignore::RuntimeWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"
)


def with_lora(model=None, config=peft.LoraConfig, **options):
    own = {"target_modules": TARGETS} | (
        {"r": 4, "lora_alpha": 6} if config is peft.LoraConfig else {"init_r": 4, "total_step": 9}
    )
    with torch.random.fork_rng(devices=[]):
        return peft.get_peft_model(stack(torch.float64) if model is None else model, config(**own | options))


def layers_of(model):
    return [layer for layer in model.modules() if isinstance(layer, peft.tuners.lora.LoraLayer)]


def start(model, *args, **options):
    return initialize_lora_cur_weights(model, *args, progress=False, **{"rng": 0} | options)


def of_rank(r, seed=0):
    """A `Stack` whose weights have a rank."""
    model = stack(torch.float64)
    for number, module in enumerate(model.modules()):
        if isinstance(module, nn.Linear):
            m, n = module.weight.shape
            module.weight.data = normal((m, r), torch.float64, seed + number) @ normal(
                (r, n), torch.float64, seed - number - 1
            )
    return model


VARIANTS = {
    "lora": {},
    "dora": {"use_dora": True},
    "rslora": {"use_rslora": True},
    "ranks": {"rank_pattern": {"fc1": 2}},
    "dropout": {"lora_dropout": 0.3},
    "bias": {"lora_bias": True, "target_modules": ["query"]},
}


@pytest.mark.parametrize("init", ["cur", "cur_residual"])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_outputs_are_those_of_the_base_and_all_starts_move(variant, init, dtype):
    base, x = stack(dtype), normal((5, 24), dtype)
    y = base(x)
    model = with_lora(base, **VARIANTS[variant])
    assert start(model, init=init) is model
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(model.eval()(x), y, rtol=0, atol=0 if init == "cur" and variant != "dora" else 40 * eps)
    model.train()(x).square().sum().backward()
    for layer in layers_of(model):
        assert layer.lora_B["default"].weight.grad.any()
        assert layer.lora_B["default"].weight.any() == (init == "cur_residual")


@pytest.mark.parametrize("method", ["osinsky", "leverage", "inverse_norm"])
def test_a_is_an_orthonormal_basis_of_the_weights_own_rows_as_large_as_pefts(method):
    model = start(with_lora(of_rank(4)), method=method)
    for layer in layers_of(model):
        A, W = layer.lora_A["default"].weight.detach(), layer.get_base_layer().weight
        torch.testing.assert_close(3 * A @ A.T, torch.eye(4, dtype=torch.float64), rtol=0, atol=1e-12)
        torch.testing.assert_close(3 * W @ A.T @ A, W, rtol=0, atol=1e-10 * float(W.norm()))


def test_what_is_taken_out_is_the_cur_and_its_factors_are_balanced():
    base = of_rank(4)
    weights = [base.get_submodule(f"blocks.0.{name}").weight.clone() for name in TARGETS]
    model = start(with_lora(base), init="cur_residual")
    for layer, W in zip(layers_of(model)[:3], weights, strict=True):
        A, B = layer.lora_A["default"].weight.detach(), layer.lora_B["default"].weight.detach()
        torch.testing.assert_close(1.5 * B @ A, W, rtol=0, atol=1e-10 * float(W.norm()))
        assert layer.get_base_layer().weight.norm() < 1e-10 * W.norm()
        torch.testing.assert_close(A.norm(dim=1), B.norm(dim=0))


def test_a_residual_start_is_taken_back_when_the_adapter_goes():
    base, x = stack(torch.float64), normal((5, 24), torch.float64)
    y = base(x)
    for options in ({}, {"use_dora": True}):
        model = start(with_lora(base, **options), init="cur_residual")
        disturb(model)
        base = unload(model)
        torch.testing.assert_close(base(x), y, rtol=0, atol=1e-12)


def test_adalora_starts_with_orthonormal_p_and_q_and_no_penalty():
    x = normal((5, 24), torch.float64)
    base = of_rank(4)
    y = base(x)
    model = start(with_lora(base, peft.AdaLoraConfig))
    assert torch.equal(model(x), y)
    for layer in layers_of(model):
        P, Q, e = (getattr(layer, f"lora_{part}")["default"].detach() for part in "BAE")
        W = layer.get_base_layer().weight
        for X in (P.T @ P, Q @ Q.T):
            torch.testing.assert_close(X, torch.eye(4, dtype=torch.float64), rtol=0, atol=1e-12)
        torch.testing.assert_close(P @ P.T @ W @ Q.T @ Q, W, rtol=0, atol=1e-10 * float(W.norm()))
        assert not e.any() and not layer.ranknum["default"].requires_grad
    with pytest.raises(ValueError, match="init must be 'cur' for AdaLoRA"):
        start(with_lora(None, peft.AdaLoraConfig), init="cur_residual")


@pytest.mark.parametrize("init", ["cur", "cur_residual"])
@pytest.mark.parametrize("family", ["gpt2", "mixtral", "llama"])
def test_conv1d_and_experts_start_as_linear_layers_do(family, init):
    make, inputs, targets = models.FAMILIES[family]
    base = models.seeded(make)
    y = models.output(base, inputs())
    model = start(with_lora(base, **targets), init=init)
    torch.testing.assert_close(models.output(model.eval(), inputs()), y, rtol=0, atol=2e-6)
    for layer in layers_of(model):
        if isinstance(layer, peft.tuners.lora.ParamWrapper) and init == "cur":
            A = layer.lora_A["default"].weight.unflatten(0, (layer.num_experts, -1)).detach()
            for expert in 3 * A @ A.mT:
                torch.testing.assert_close(expert, torch.eye(4), rtol=0, atol=1e-5)


def test_experts_of_a_rank_are_taken_out_whole():
    base = models.seeded(models.mixtral)
    experts = base.model.layers[0].mlp.experts
    for number, p in enumerate(experts.parameters()):
        E, m, n = p.shape
        p.data = normal((E, m, 4), seed=number) @ normal((E, 4, n), seed=number + 5)
    norms = [p.norm() for p in experts.parameters()]
    model = with_lora(
        base,
        target_modules=[],
        target_parameters=["layers.0.mlp.experts.gate_up_proj", "layers.0.mlp.experts.down_proj"],
    )
    start(model, init="cur_residual")
    assert all(p.norm() < 1e-4 * norm for p, norm in zip(experts.parameters(), norms, strict=True))


@pytest.mark.parametrize(
    "name", ["pissa", "pissa_niter_2", "olora", "corda", "loftq", "lora_ga", "mica", "cur_residual"]
)
def test_a_start_that_is_in_the_base_weights_is_refused_by_its_name(name):
    model = with_lora(stack(), **({"init_lora_weights": name} if name in ("pissa", "pissa_niter_2", "olora") else {}))
    model.peft_config["default"].init_lora_weights = name
    with untouched(model), pytest.raises(ValueError, match=rf"untouched base weights, got init_lora_weights='{name}'"):
        start(model)


@pytest.mark.parametrize("name", [True, False, "gaussian", "orthogonal"])
def test_starts_that_leave_the_base_alone_are_replaced(name):
    base, x = stack(torch.float64), normal((5, 24), torch.float64)
    y = base(x)
    assert torch.equal(start(with_lora(base, init_lora_weights=name))(x), y)


def test_one_of_several_adapters_starts_and_the_others_stay():
    model = with_lora()
    model.add_adapter("other", peft.LoraConfig(r=3, target_modules=["query"]))
    before = {name: p.clone() for name, p in model.named_parameters()}
    start(model, "other")
    assert {name for name, p in model.named_parameters() if not torch.equal(p, before[name])} == {
        f"base_model.model.blocks.{i}.query.lora_A.other.weight" for i in range(3)
    }
    with untouched(model), pytest.raises(ValueError, match="peft_model must be one without other adapters"):
        start(model, init="cur_residual")


def test_a_seed_repeats_itself_by_layer_and_leaves_global_states_alone():
    state = torch.get_rng_state()
    options = {"method": "inverse_norm"}
    first, second, narrow, other = (
        {name: p.clone() for name, p in start(with_lora(target_modules=t), rng=seed, **options).named_parameters()}
        for t, seed in ((TARGETS, 3), (TARGETS, 3), (["fc1"], 3), (TARGETS, 4))
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(p, second[name]) for name, p in first.items())
    assert all(torch.equal(p, first[name]) for name, p in narrow.items() if "lora_A" in name)
    assert any(not torch.equal(p, first[name]) for name, p in other.items())


def merged():
    model = with_lora()
    merge(model)
    return model


def damaged():
    model = with_lora()
    model.get_base_model().blocks[2].fc1.base_layer.weight.data[3, 4] = np.nan
    return model


def quantised():
    model = with_lora()
    layer = model.get_base_model().blocks[2].fc1.base_layer
    layer.weight = nn.Parameter(layer.weight.to(torch.int8), requires_grad=False)
    return model


def placeholders():
    return peft.get_peft_model(stack(), peft.LoraConfig(target_modules=TARGETS), low_cpu_mem_usage=True)


def other_layers():
    base = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Embedding(9, 8))
    return peft.get_peft_model(base, peft.LoraConfig(r=2, target_modules=["0", "1"]))


BAD = {
    "no PeftModel": (stack, {}, TypeError, "peft_model must be a peft.PeftModel, got Stack"),
    "unknown adapter": (with_lora, {"adapter_name": "other"}, ValueError, "adapter_name must be one of default"),
    "another method": (
        lambda: peft.get_peft_model(stack(), peft.VeraConfig(r=2, target_modules=["query"])), {},
        TypeError, "VeraConfig",
    ),
    "unknown init": (with_lora, {"init": "svd"}, ValueError, "init must be one of cur, cur_residual"),
    "unknown rule": (with_lora, {"method": "best"}, ValueError, "method must be a function or one of"),
    "progress a word": (with_lora, {"progress": "no"}, TypeError, "progress"),
    "merged": (merged, {}, ValueError, "blocks.0.query' must be unmerged, got a merged one"),
    "NaN": (damaged, {}, ValueError, r"blocks.2.fc1' must be finite, got NaN or infinity, first at \(3, 4\)"),
    "quantised": (quantised, {}, TypeError, "blocks.2.fc1' must be in half, single or.*int8"),
    "on the meta device": (placeholders, {}, ValueError, "blocks.0.query' must be one with data"),
    "no linear layer": (other_layers, {}, TypeError, "must be a torch.nn.Linear, transformers' Conv1D.*got Conv2d"),
    "too low a rank": (lambda: with_lora(of_rank(2)), {}, ValueError, "numerical rank at least 4.*got 2"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", BAD)
def test_bad_input_is_refused_and_nothing_is_changed(wrong):
    make, options, error, message = BAD[wrong]
    model = make()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(error, match=message):
        initialize_lora_cur_weights(model, **{"progress": False, "rng": 0} | options)
    for name, tensor in model.state_dict().items():
        assert tensor.is_meta or torch.equal(tensor, before[name]) or tensor.isnan().any()


def test_progress_is_shown_when_asked_for(capsys):
    start(with_lora())
    assert capsys.readouterr().err == ""
    initialize_lora_cur_weights(with_lora())
    assert "choose rows" in capsys.readouterr().err
