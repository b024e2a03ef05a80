import contextlib
import copy
import pickle

import pytest
import torch
from torch import nn
from torch_models import KINDS, adapted, disturb, normal, trained, untouched

from curtensor.adapters import (
    count_parameters,
    disabled,
    export_lora,
    load_adapter,
    merge,
    save_adapter,
    unload,
    unmerge,
)

TARGETS = {
    "in_proj": ["in_proj_weight"],
    "out_proj": ["out_proj"],
    "linear": ["linear1", "linear2"],
    "all": ["in_proj_weight", "out_proj", "linear1", "linear2"],
}
MODES = {
    "training": (True, contextlib.nullcontext),
    "eval": (False, contextlib.nullcontext),
    "eval, no_grad": (False, torch.no_grad),
    "eval, inference_mode": (False, torch.inference_mode),
}
pytestmark = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")


def encoder(dtype=torch.float64):
    """Two layers without dropout; in eval mode and without gradients torch takes its fast path."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True, dtype=dtype)
        return nn.TransformerEncoder(layer, 2, enable_nested_tensor=True)


def with_plain_weights(model):
    """The same encoder of plain layers, the updates added to their weights."""
    plain = encoder(next(model.parameters()).dtype)
    plain.load_state_dict(unload(copy.deepcopy(model), keep_update=True).state_dict())
    return plain


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("targets", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("kind", ["lora", "curlora", "tcurlora-ranks"])
def test_the_adapter_is_in_every_path_of_the_transformer_encoder(kind, targets, mode, masked):
    training, context = MODES[mode]
    model = adapted(kind, encoder(), targets, layers_to_transform=[0, 1])
    disturb(model)
    plain = with_plain_weights(model)
    x = normal((3, 5, 16), torch.float64)
    mask = torch.zeros(3, 5, dtype=torch.bool)
    mask[1, 3:] = mask[2, 1:] = True
    options = {"src_key_padding_mask": mask} if masked else {}
    model.train(training)
    plain.train(training)
    with context():
        y, wanted = model(x, **options), plain(x, **options)
        kept = ~mask if masked else slice(None)
        torch.testing.assert_close(y[kept], wanted[kept], rtol=0, atol=1e-12)
        with disabled(model):
            base = model(x, **options)
        assert torch.linalg.norm((y - base)[kept]) > 1e-2


@pytest.mark.parametrize("targets", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("kind", KINDS)
def test_adapters_in_the_encoder_begin_as_identity_train_merge_and_go(kind, targets, tmp_path):
    model = encoder()
    x = normal((3, 5, 16), torch.float64)
    names = list(model.state_dict())
    model.requires_grad_(False)
    with torch.no_grad():  # torch takes other attention kernels where a weight is trained or gradients flow
        base, fast = model(x), model.eval()(x)
    adapted(kind, model, targets)
    with torch.no_grad():
        assert torch.equal(model(x), fast)
        assert torch.equal(model.train()(x), base)
    disturb(model)
    y = model(x)
    y.square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in trained(model))
    merge(model)
    torch.testing.assert_close(model(x), y, rtol=0, atol=1e-12)
    unmerge(model)
    assert torch.equal(model(x), y)
    save_adapter(model, tmp_path)
    assert torch.equal(load_adapter(encoder(), tmp_path)(x), y)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(x), y)
        disturb(other, seed=7)
        assert not torch.equal(other(x), y)
        unload(other)
        assert torch.equal(model(x), y)
    unload(model)
    assert list(model.state_dict()) == names
    with torch.no_grad():
        assert torch.equal(model(x), base)


@pytest.mark.parametrize("kind", ["lora", "curlora"])
def test_multihead_attention_alone(kind):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.MultiheadAttention(16, 2, batch_first=True, dtype=torch.float64)
    x = normal((3, 5, 16), torch.float64)
    model.requires_grad_(False)
    with torch.no_grad():
        base = model(x, x, x)[0]
    adapted(kind, model, ["in_proj_weight", "out_proj"])
    with torch.no_grad():
        assert torch.equal(model(x, x, x)[0], base)
    disturb(model)
    y = model(x, x, x)[0]
    assert torch.linalg.norm(y - base) > 1e-2
    model.eval()
    with torch.inference_mode():
        torch.testing.assert_close(model(x, x, x, need_weights=False)[0], y, rtol=0, atol=1e-12)
    assert count_parameters(model)[0] == {"lora": 4 * 64 + 4 * 32, "curlora": 72}[kind]


def test_an_attention_itself_is_refused_with_what_to_name():
    model = encoder()
    with untouched(model), pytest.raises(TypeError, match="name 'in_proj_weight' or 'out_proj'"):
        adapted("lora", model, ["self_attn"])


def test_lora_files_have_no_packed_projections(tmp_path):
    model = adapted("lora", encoder(), ["in_proj_weight"])
    with pytest.raises(ValueError, match=r"layers.0.self_attn.in_proj_weight"):
        export_lora(model, tmp_path)


def test_attention_with_keys_of_another_width_has_no_packed_projection():
    model = nn.ModuleDict({"attention": nn.MultiheadAttention(16, 2, kdim=8, vdim=8)})
    with untouched(model), pytest.raises(ValueError, match="target_modules must be names of modules"):
        adapted("lora", model, ["in_proj_weight"])


def gpt2_block(dtype=torch.float64):
    from transformers.pytorch_utils import Conv1D

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        block = nn.ModuleDict({"c_attn": Conv1D(48, 16), "gelu": nn.GELU(), "c_proj": Conv1D(16, 48)})
    return nn.Sequential(*block.values()).to(dtype)


@pytest.mark.parametrize("kind", KINDS)
def test_conv1d_is_transposed_in_both_places(kind, tmp_path):
    model = gpt2_block()
    x = normal((3, 5, 16), torch.float64)
    base, weights = model(x), copy.deepcopy(model.state_dict())
    options = {} if not kind.startswith("tcurlora") else {"group_by": lambda name: name, "ranks": 6}
    adapted(kind, model, ["0", "2"], **options)
    assert torch.equal(model(x), base)
    disturb(model)
    y = model(x)
    assert torch.linalg.norm(y - base) > 1e-3
    for layer in (model[0], model[2]):
        update = layer.delta.matrix()
        assert update.shape == layer.weight.shape[::-1]
        assert update.shape == (layer.out_features, layer.in_features)
        torch.testing.assert_close(layer.weight, layer.base_layer.weight + update.T)
    merge(model)
    torch.testing.assert_close(model(x), y, rtol=0, atol=1e-12)
    save_adapter(model, tmp_path)
    unmerge(model)
    assert torch.equal(load_adapter(gpt2_block(), tmp_path)(x), y)
    unload(model)
    assert all(torch.equal(a, weights[name]) for name, a in model.state_dict().items())


@pytest.mark.parametrize("name", ["curlora-raw"])
def test_columns_of_a_conv1d_are_those_of_its_transpose(name):
    model = adapted(name, gpt2_block(), ["0"])
    delta = model[0].delta
    assert torch.equal(delta.C, model[0].base_layer.weight.T[:, delta.columns])
    assert torch.equal(delta.R, model[0].base_layer.weight.T[delta.rows])


@pytest.mark.parametrize(
    "make, targets", [(gpt2_block, ["0", "2"]), (lambda: encoder(), ["in_proj_weight", "out_proj"])]
)
@pytest.mark.parametrize("kind", ["lora", "curlora", "tcurlora-ranks"])
def test_state_dicts_of_merged_models_restore_the_model(kind, make, targets):
    options = {"group_by": lambda name: name, "ranks": 6} if kind.startswith("tcurlora") and make is gpt2_block else {}
    model = adapted(kind, make(), targets, **options)
    disturb(model)
    x, state = normal((3, 5, 16), torch.float64), copy.deepcopy(model.state_dict())
    y = model(x)
    merge(model)
    saved = model.state_dict()
    assert list(saved) == list(state)
    assert all(torch.equal(saved[name], tensor) for name, tensor in state.items())
    other = adapted(kind, make(), targets, **options)
    merge(other)
    other.load_state_dict(saved)
    assert torch.equal(other(x), y)
