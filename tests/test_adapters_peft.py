"""CURLoRA as one of PEFT's methods, under the checks that PEFT's own suite makes of every method; LoRA from rows."""

import copy
import pickle
import re

import numpy as np
import pytest
import torch
from torch import nn
from torch_models import stack

peft = pytest.importorskip("peft")

from curtensor.adapters import CURLoRAConfig, CURLoRAModel, initialize_lora_cur_weights  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


class Gpt(nn.Module):
    """Layers of transformers' kind, whose weights lie in by out."""

    def __init__(self):
        super().__init__()
        from transformers.pytorch_utils import Conv1D

        self.c_attn, self.c_proj = Conv1D(30, 24), Conv1D(24, 30)

    def forward(self, x):
        return self.c_proj(torch.tanh(self.c_attn(x)))


def gpt(dtype=torch.float32):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Gpt().to(dtype)


# name: (base model, options of the adapter)
CASES = {
    "square": (stack, {"target_modules": ["query"]}),
    "tall-and-wide": (stack, {"target_modules": ["fc1", "fc10"], "r": 5}),
    "all-linear": (stack, {"target_modules": "all-linear", "r": 4, "exclude_modules": ["head"]}),
    "raw": (stack, {"target_modules": ["query"], "basis": "raw", "method": "inverse_norm", "scale": 0.5}),
    "regex": (stack, {"target_modules": r"blocks\.[02]\.fc1", "method": "lupp", "seed": 3}),
    "some-layers": (stack, {"target_modules": ["query"], "layers_to_transform": [1], "layers_pattern": "blocks"}),
    "modules-to-save": (stack, {"target_modules": ["query"], "modules_to_save": ["head"]}),
    "bias": (stack, {"target_modules": ["fc1"], "bias": "curlora_only"}),
    "conv1d": (gpt, {"target_modules": ["c_attn", "c_proj"]}),
}
ALL = pytest.mark.parametrize("case", CASES)


def config(case, **options):
    return CURLoRAConfig(**{"r": 6} | CASES[case][1] | options)


def adapted(case, dtype=torch.float32, **options):
    return peft.get_peft_model(CASES[case][0](dtype), config(case, **options))


def data(dtype=torch.float32):
    return torch.from_numpy(np.random.default_rng(5).standard_normal((3, 7, 24))).to(dtype)


def parameters(model):
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


@ALL
def test_outputs_are_those_of_the_base_at_the_start(case):
    assert torch.equal(adapted(case)(data()), CASES[case][0]()(data()))


@ALL
def test_only_adapters_train_and_each_gets_a_gradient(case):
    model = adapted(case)
    own = r"curlora_delta\.default\.U$" + {
        "modules-to-save": r"|head\.modules_to_save\.default",
        "bias": r"|fc1\.base_layer\.bias$",
    }.get(case, "")
    assert parameters(model)
    for name, p in model.named_parameters():
        assert p.requires_grad == bool(re.search(own, name)), name
    model(data()).square().sum().backward()
    for name, p in model.named_parameters():
        assert (p.grad is not None) == p.requires_grad, name
        assert p.grad is None or p.grad.any(), name


@ALL
def test_a_step_moves_the_adapters_and_nothing_else(case):
    model = adapted(case)
    before = copy.deepcopy(model.state_dict())
    names = set(parameters(model))
    optimizer = torch.optim.SGD(parameters(model).values(), lr=0.1)
    model(data()).square().sum().backward()
    optimizer.step()
    for name, now in model.state_dict().items():
        assert torch.equal(now, before[name]) == (name not in names), name


@ALL
def test_number_of_trained_parameters(case):
    model = adapted(case)
    layers = [m for m in model.modules() if isinstance(m, CURLoRAModel.tuner_layer_cls)]
    own = sum(p.numel() for name, p in model.named_parameters() if p.requires_grad and "curlora_" in name)
    assert own == len(layers) * config(case).r ** 2 > 0


@ALL
@pytest.mark.parametrize("safe", [False, True])
def test_merged_equals_unmerged_and_the_base_comes_back_to_the_bit(case, safe):
    model = adapted(case, torch.float64, init_weights=False)
    x = data(torch.float64)
    base = CASES[case][0](torch.float64)
    y, weights = model(x), {k: v.clone() for k, v in model.state_dict().items() if "base_layer.weight" in k}
    assert torch.linalg.norm(y - base(x)) > 1e-3 * torch.linalg.norm(y)
    model.merge_adapter(safe_merge=safe)
    assert all(layer.merged for layer in model.modules() if hasattr(layer, "curlora_delta"))
    torch.testing.assert_close(model(x), y, rtol=1e-12, atol=1e-12)
    assert not any(torch.equal(model.state_dict()[k], v) for k, v in weights.items())
    model.unmerge_adapter()
    assert all(torch.equal(model.state_dict()[k], v) for k, v in weights.items())
    assert torch.equal(model(x), y)
    whole = model.merge_and_unload()
    assert not any(hasattr(module, "curlora_delta") for module in whole.modules())
    torch.testing.assert_close(whole(x), y, rtol=1e-12, atol=1e-12)


@ALL
def test_unload_gives_back_the_base(case):
    model = adapted(case, init_weights=False)
    model.merge_adapter()
    model.unmerge_adapter()
    assert torch.equal(model.unload()(data()), CASES[case][0]()(data()))


@ALL
def test_disabling_restores_the_base_to_the_bit(case):
    model, plain = adapted(case, init_weights=False), CASES[case][0]()(data())
    y = model(data())
    with pytest.warns(UserWarning, match="bias") if case == "bias" else torch.no_grad(), model.disable_adapter():
        assert torch.equal(model(data()), plain)
    assert torch.equal(model(data()), y)
    model.merge_adapter()
    with pytest.warns(UserWarning, match="bias") if case == "bias" else torch.no_grad(), model.disable_adapter():
        assert torch.equal(model(data()), plain)
    assert torch.equal(model(data()), y)


def trained(case):
    """A model some steps away from its start."""
    model = adapted(case)
    optimizer = torch.optim.Adam(parameters(model).values(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        model(data()).square().sum().backward()
        optimizer.step()
    return model


@ALL
@pytest.mark.parametrize("low_cpu_mem_usage", [False, True])
@pytest.mark.parametrize("safe_serialization", [True, False])
def test_save_pretrained_and_from_pretrained_restore_equal_outputs(
    case, low_cpu_mem_usage, safe_serialization, tmp_path
):
    model = trained(case)
    y = model(data())
    model.save_pretrained(tmp_path, safe_serialization=safe_serialization)
    other = peft.PeftConfig.from_pretrained(tmp_path)
    mine = model.peft_config["default"].to_dict()
    assert type(other) is CURLoRAConfig
    assert other.to_dict() | {"auto_mapping": None} == mine | {"inference_mode": True}
    other.seed += 1  # must not matter: the indices are in the file
    for given in (None, other):
        loaded = peft.PeftModel.from_pretrained(
            CASES[case][0](), tmp_path, config=given, low_cpu_mem_usage=low_cpu_mem_usage
        )
        assert not any("curlora_" in name or "head" in name for name in parameters(loaded))
        assert torch.equal(loaded(data()), y)
    assert parameters(peft.PeftModel.from_pretrained(CASES[case][0](), tmp_path, is_trainable=True))


@ALL
def test_file_holds_cores_and_indices_and_no_bases(case, tmp_path):
    from safetensors.torch import load_file

    trained(case).save_pretrained(tmp_path)
    names = {name.rsplit("curlora_delta.", 1)[-1] for name in load_file(tmp_path / "adapter_model.safetensors")}
    assert {name for name in names if "head" not in name and "bias" not in name} == {"U", "columns", "rows"}


def test_loading_into_a_model_under_another_name(tmp_path):
    model = trained("square")
    model.save_pretrained(tmp_path)
    other = peft.PeftModel.from_pretrained(stack(), tmp_path, adapter_name="other")
    assert torch.equal(other(data()), model(data()))


@pytest.mark.parametrize("case", ["square", "conv1d", "tall-and-wide"])
def test_state_dict_round_trip_of_the_whole_model(case):
    model = trained(case)
    other = adapted(case, seed=9)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(data()), model(data()))


@ALL
@pytest.mark.parametrize(
    "clone", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["copy", "pickle"]
)
def test_copies_give_equal_outputs_and_live_apart(case, clone):
    model = adapted(case, init_weights=False)
    other = clone(model)
    y = model(data())
    assert torch.equal(other(data()), y)
    with torch.no_grad():
        for p in parameters(other).values():
            p.add_(1)
    assert torch.equal(model(data()), y)
    assert not torch.equal(other(data()), y)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision(dtype, autocast):
    model = peft.get_peft_model(stack(dtype), config("square", init_weights=False), autocast_adapter_dtype=autocast)
    assert {p.dtype for p in parameters(model).values()} == {torch.float32 if autocast else dtype}
    y = model(data(dtype))
    assert y.dtype == dtype
    y.float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in parameters(model).values())
    exact = adapted("square", torch.float64, init_weights=False)(data(torch.float64))
    assert torch.linalg.norm(y.double() - exact) <= 64 * torch.finfo(dtype).eps * torch.linalg.norm(exact)


def test_two_adapters_active_one_by_one_and_together():
    model = adapted("square", torch.float64, init_weights=False)
    base, x = stack(torch.float64), data(torch.float64)
    model.add_adapter("second", config("square", init_weights=False, r=4, seed=8))
    assert all("second" not in name for name in parameters(model))
    first = model(x)
    model.set_adapter("second")
    second = model(x)
    assert all("second" in name for name in parameters(model))
    model.base_model.set_adapter(["default", "second"])
    both = model(x)
    for one, other in ((first, second), (first, both), (second, both), (first, base(x))):
        assert torch.linalg.norm(one - other) > 1e-4 * torch.linalg.norm(other)
    model.merge_adapter()
    torch.testing.assert_close(model(x), both, rtol=1e-12, atol=1e-12)
    model.unmerge_adapter()
    assert torch.equal(model(x), both)
    model.set_adapter("default")
    assert torch.equal(model(x), first)


def test_a_deleted_adapter_is_gone_and_the_other_stays():
    model = adapted("square", init_weights=False)
    y = model(data())
    model.add_adapter("second", config("square", init_weights=False, seed=8))
    model.delete_adapter("second")
    assert torch.equal(model(data()), y)
    assert not any("second" in name for name in model.state_dict())
    model.add_adapter("third", config("square"))
    with pytest.warns(UserWarning, match="Setting active adapter to third"):
        model.delete_adapter("default")
    assert torch.equal(model(data()), stack()(data()))


def test_merging_one_of_two_adapters():
    model = adapted("square", torch.float64, init_weights=False)
    x = data(torch.float64)
    y = model(x)
    model.add_adapter("second", config("square", init_weights=False, seed=8))
    whole = model.merge_and_unload(adapter_names=["default"])
    torch.testing.assert_close(whole(x), y, rtol=1e-12, atol=1e-12)


def test_nan_is_refused_by_a_safe_merge_before_the_weight_changes():
    model = adapted("square")
    with torch.no_grad():
        parameters(model)["base_model.model.blocks.0.query.curlora_delta.default.U"].fill_(torch.nan)
    layer = model.base_model.model.blocks[0].query
    before = layer.base_layer.weight.clone()
    with pytest.raises(ValueError, match="must be finite, got NaN or infinity"):
        layer.merge(safe_merge=True)
    assert torch.equal(layer.base_layer.weight, before) and not layer.merged


def test_weight_is_the_effective_weight():
    model = adapted("conv1d", torch.float64, init_weights=False)
    layer = model.base_model.model.c_attn
    x = data(torch.float64)
    torch.testing.assert_close(x @ layer.weight + layer.bias, layer(x), rtol=1e-12, atol=1e-12)
    effective = layer.weight
    layer.merge()
    assert torch.equal(layer.weight, effective)
    with pytest.warns(UserWarning, match="Already unmerged"):
        layer.unmerge()
        layer.unmerge()


def test_an_adapter_in_a_transformer_encoder_acts_in_eval_mode_too():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(24, 2, 30, 0.0, batch_first=True), 2)
    options = CURLoRAConfig(r=6, target_modules=["linear1"], init_weights=False)
    plain = copy.deepcopy(encoder).eval()(data())
    model = peft.get_peft_model(encoder, options)
    y = model.train()(data())
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(data()), y, rtol=1e-5, atol=1e-5)
    assert torch.linalg.norm(y - plain) > 1e-3 * torch.linalg.norm(y)


def test_gradient_checkpointing_gives_the_same_gradients():
    from torch.utils.checkpoint import checkpoint

    model = adapted("all-linear", init_weights=False)
    model(data()).square().sum().backward()
    gradients = {name: p.grad.clone() for name, p in parameters(model).items()}
    model.zero_grad()
    checkpoint(model, data(), use_reentrant=False).square().sum().backward()
    assert all(torch.equal(p.grad, gradients[name]) for name, p in parameters(model).items())


@pytest.mark.slow
def test_compile_and_export():
    model = adapted("all-linear", init_weights=False).eval()
    y = model(data())
    torch.testing.assert_close(torch.compile(model, backend="aot_eager", fullgraph=True)(data()), y)
    torch.testing.assert_close(torch.export.export(model, (data(),)).module()(data()), y)


def test_global_random_states_are_left_alone():
    base = stack()
    before, numpys = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    peft.get_peft_model(base, config("square", init_weights=False))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert (np.random.get_state()[1] == numpys).all()  # noqa: NPY002


def test_same_seed_same_layers_whatever_else_is_adapted():
    one, other = adapted("square"), adapted("all-linear", r=6)
    name = "base_model.model.blocks.1.query.curlora_delta.default.columns"
    assert torch.equal(one.state_dict()[name], other.state_dict()[name])


def test_injection_without_a_peft_model():
    model = peft.inject_adapter_in_model(config("square", init_weights=False), stack())
    assert set(parameters(model)) == {f"blocks.{i}.query.curlora_delta.default.U" for i in range(3)}
    other = peft.inject_adapter_in_model(config("square", seed=4), stack())
    state = peft.get_peft_model_state_dict(model)
    assert not peft.set_peft_model_state_dict(other, state).unexpected_keys
    assert torch.equal(other(data()), model(data()))
    empty = peft.inject_adapter_in_model(config("square"), stack(), low_cpu_mem_usage=True)
    assert all(p.is_meta for p in parameters(empty).values())


def test_conversion_to_lora_keeps_the_outputs():
    model = trained("square")
    assert model.supports_lora_conversion()
    settings, state = peft.convert_to_lora(model, rank=6, adapter_name="default")
    other = peft.get_peft_model(stack(), settings)
    peft.set_peft_model_state_dict(other, state)
    torch.testing.assert_close(other(data()), model(data()), rtol=1e-4, atol=1e-5)


BAD = {
    "r of 0": ({"r": 0}, ValueError, "r must be between 1"),
    "scale": ({"scale": -1.0}, ValueError, "scale must be"),
    "basis": ({"basis": "svd"}, ValueError, "basis must be one of orthonormal, raw"),
    "method": ({"method": "best"}, ValueError, "method must be one of"),
    "bias": ({"bias": "lora_only"}, ValueError, "bias must be one of"),
    "layers": ({"target_modules": "fc1", "layers_to_transform": [0]}, ValueError, "layers_to_transform must be"),
    "pattern": ({"target_modules": ["fc1"], "layers_pattern": "blocks"}, ValueError, "layers_to_transform must be"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_options(case):
    options, error, message = BAD[case]
    with pytest.raises(error, match=message):
        CURLoRAConfig(**options)


def test_bad_targets():
    with pytest.raises(ValueError, match="not found in the base model"):
        peft.get_peft_model(stack(), CURLoRAConfig(target_modules=["nonsense"]))
    with pytest.raises(
        TypeError, match=r"the module 'norm' must be a torch.nn.Linear or transformers' Conv1D, got .*LayerNorm"
    ):
        peft.get_peft_model(stack(), CURLoRAConfig(target_modules=["norm"]))
    with pytest.raises(ValueError, match=r"rank of 'blocks.0.query' must be between 1 and 24, got 25"):
        peft.get_peft_model(stack(), CURLoRAConfig(target_modules=["query"], r=25))


def test_registering_twice_changes_nothing():
    from curtensor.adapters import peft_bridge

    members = list(peft.PeftType)
    peft_bridge.register()
    assert list(peft.PeftType) == members
    assert peft.PeftType("CURLORA") is peft.PeftType.CURLORA is peft.PeftType["CURLORA"]


# LoRA from rows


def lora(base, **options):
    return peft.get_peft_model(base, peft.LoraConfig(**{"r": 4, "target_modules": ["query", "fc1"]} | options))


def test_lora_from_rows_starts_as_the_base_with_orthonormal_rows_of_the_weight():
    base = stack(torch.float64)
    plain = base(data(torch.float64))
    model = initialize_lora_cur_weights(lora(base), progress=False, rng=0)
    assert torch.equal(model(data(torch.float64)), plain)
    for block in base.blocks:
        for layer in (block.query, block.fc1):
            A = layer.lora_A["default"].weight
            torch.testing.assert_close(3 * A @ A.T, torch.eye(4, dtype=A.dtype), rtol=1e-12, atol=1e-12)
            # the span is that of four rows of the weight: so many rows are in it, and no more
            rows = layer.base_layer.weight
            left = torch.linalg.vector_norm(rows - 3 * rows @ A.T @ A, dim=1)
            assert int((left <= 1e-12 * torch.linalg.vector_norm(rows, dim=1)).sum()) == 4


def test_lora_from_rows_keeps_rank_patterns_and_conv1d():
    model = lora(gpt(), target_modules=["c_attn", "c_proj"], rank_pattern={"c_proj": 6}, fan_in_fan_out=True)
    y = gpt()(data())
    initialize_lora_cur_weights(model, progress=False, rng=0)
    assert torch.equal(model(data()), y)
    assert model.base_model.model.c_proj.lora_A["default"].weight.shape == (6, 30)


def test_lora_from_rows_is_seeded_and_saved_as_any_lora(tmp_path):
    one, other = (initialize_lora_cur_weights(lora(stack()), progress=False, rng=3) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    with torch.no_grad():
        for p in parameters(one).values():
            p.add_(0.1)
    one.save_pretrained(tmp_path)
    assert torch.equal(peft.PeftModel.from_pretrained(stack(), tmp_path)(data()), one(data()))


def test_lora_from_rows_leaves_other_adapters_alone():
    model = lora(stack())
    model.add_adapter("second", peft.LoraConfig(r=3, target_modules=["query"]))
    before = copy.deepcopy(model.state_dict())
    initialize_lora_cur_weights(model, "second", progress=False, rng=0)
    changed = {name for name, now in model.state_dict().items() if not torch.equal(now, before[name])}
    assert changed == {f"base_model.model.blocks.{i}.query.lora_A.second.weight" for i in range(3)}


def test_lora_from_rows_refuses_what_it_cannot_do_and_changes_nothing():
    with pytest.raises(TypeError, match=r"peft_model must be a peft\.PeftModel, got Stack"):
        initialize_lora_cur_weights(stack())
    with pytest.raises(ValueError, match="adapter_name must be one of default, got 'other'"):
        initialize_lora_cur_weights(lora(stack()), "other")
    with pytest.raises(TypeError, match="must be a LoRA adapter, got CURLoRAConfig"):
        initialize_lora_cur_weights(adapted("square"))
    with pytest.raises(ValueError, match="method must be a function or one of"):
        initialize_lora_cur_weights(lora(stack()), method="best")
    merged = lora(stack())
    merged.merge_adapter()
    with pytest.raises(ValueError, match="must be unmerged, got a merged one"):
        initialize_lora_cur_weights(merged, progress=False)
    embedding = nn.Sequential(nn.Embedding(30, 20), nn.Linear(20, 20))
    mixed = lora(embedding, target_modules=["0", "1"])
    broken = lora(stack())
    with torch.no_grad():
        broken.base_model.model.blocks[2].fc1.base_layer.weight[1, 2] = torch.nan
    for model, error, message in (
        (mixed, TypeError, "must be a torch.nn.Linear or transformers' Conv1D, got .*Embedding"),
        (broken, ValueError, r"must be finite, got NaN or infinity, first at \(1, 2\)"),
    ):
        before = copy.deepcopy(model.state_dict())
        with pytest.raises(error, match=message):
            initialize_lora_cur_weights(model, progress=False)
        for name, now in model.state_dict().items():
            torch.testing.assert_close(now, before[name], rtol=0, atol=0, equal_nan=True)
