"""torch's own transformer modules, which read weights behind an adapter's back; one layer under several names."""

import contextlib
import copy
import itertools
import pickle

import pytest
import torch
from torch import nn
from torch_models import KINDS, adapted, disturb, normal, trained, untouched

from curtensor.adapters import (
    CURLoRAConfig,
    count_parameters,
    export_lora,
    load_adapter,
    merge,
    save_adapter,
    unload,
    unmerge,
)
from curtensor.adapters.transformer import CallingAttention, open_attention

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


def encoder(dtype=torch.float64, **options):
    """Two layers without dropout; in eval mode and without gradients torch takes its fast path."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True, dtype=dtype, **options)
        model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=True)
        for p in model.layers[1].parameters():  # torch makes copies of one layer
            p.data += 0.1 * torch.randn_like(p)
        return model


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
    model = adapted(kind, encoder(), targets)
    disturb(model)
    plain = with_plain_weights(model)
    x = normal((3, 5, 16), torch.float64)
    mask = torch.zeros(3, 5, dtype=torch.bool)
    mask[1, 3:] = mask[2, 1:] = True
    options = {"src_key_padding_mask": mask} if masked else {}
    model.train(training)
    plain.train(training).requires_grad_(False)
    with context():
        y, wanted = model(x, **options), plain(x, **options)
        kept = slice(None) if training or not masked or mode == "eval" else ~mask
        torch.testing.assert_close(y[kept], wanted[kept], rtol=0, atol=1e-12)
        with model.disable_adapter():
            base = model(x, **options)
        assert torch.linalg.norm((y - base)[~mask]) > 1e-2


@pytest.mark.parametrize("targets", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "lora-residual"])
def test_adapters_in_the_encoder_begin_as_identity_train_merge_and_go(kind, targets, tmp_path):
    base = encoder().requires_grad_(False)  # torch takes other kernels where a weight is trained
    x = normal((3, 5, 16), torch.float64)
    names, kinds = list(base.state_dict()), [type(module) for module in base.modules()]
    with torch.no_grad():
        plain = base(x)
    model = adapted(kind, base, targets)
    for training in (True, False):
        with torch.no_grad():
            torch.testing.assert_close(model.train(training)(x), plain, rtol=0, atol=1e-12)
    disturb(model)
    y = model(x)
    y.square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in trained(model))
    merge(model)
    torch.testing.assert_close(model(x), y, rtol=0, atol=1e-12)
    unmerge(model)
    assert torch.equal(model(x), y)
    save_adapter(model, tmp_path)
    torch.testing.assert_close(load_adapter(encoder(), tmp_path).eval()(x), y, rtol=0, atol=1e-12)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(x), y)
        disturb(other, seed=7)
        assert not torch.equal(other(x), y)
        unload(other)
        assert torch.equal(model(x), y)
    assert unload(model) is base
    assert list(base.state_dict()) == names
    assert [type(module) for module in base.modules()] == kinds
    with torch.no_grad():
        assert torch.equal(base.train()(x), plain)


def test_a_tuner_made_by_peft_alone_is_in_the_encoder_too():
    import peft

    targets = ["in_proj_weight", "out_proj", "linear1"]
    model = peft.get_peft_model(encoder(), CURLoRAConfig(r=4, target_modules=targets))
    disturb(model)
    x = normal((3, 5, 16), torch.float64)
    y = model.train()(x)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(x), y, rtol=0, atol=1e-12)
    torch.testing.assert_close(with_plain_weights(model).train()(x), y, rtol=0, atol=1e-12)


OPTIONS = {
    "batch_first": [True, False],
    "bias": [True, False],
    "extra": [True, False],
    "kdim": [None, 6],
    "batched": [True, False],
    "mask": ["none", "two", "three", "bool", "padding", "both"],
    "weights": ["none", "mean", "each"],
}


@pytest.mark.parametrize("opened", [False, True])
def test_a_calling_attention_is_that_of_torch_whatever_its_options(opened):
    for values in itertools.product(*OPTIONS.values()):
        own = dict(zip(OPTIONS, values, strict=True))
        if opened and own["kdim"]:
            continue
        plain = nn.MultiheadAttention(
            8, 2, bias=own["bias"], add_bias_kv=own["extra"], add_zero_attn=own["extra"], kdim=own["kdim"],
            vdim=own["kdim"], batch_first=own["batch_first"], dtype=torch.float64,
        )  # fmt: skip
        for number, p in enumerate(plain.parameters()):
            p.data = normal(p.shape, torch.float64, seed=number)
        attention = copy.deepcopy(plain)
        if opened:
            open_attention(attention)
        else:
            attention.__class__ = CallingAttention
        query, key = normal((3, 4, 8), torch.float64), normal((3, 5, own["kdim"] or 8), torch.float64, seed=3)
        if own["mask"] == "none" and not own["kdim"]:
            key = query
        masks = {
            "none": {},
            "two": {"attn_mask": normal((4, 5), torch.float64)},
            "three": {"attn_mask": normal((6, 4, 5), torch.float64)},
            "bool": {"attn_mask": normal((4, 5)) > 1},
            "padding": {"key_padding_mask": torch.arange(5)[None] > torch.tensor([[4], [3], [1]])},
            "both": {
                "attn_mask": normal((4, 5)) > 1.5,
                "key_padding_mask": torch.arange(5)[None] > torch.tensor([[4], [3], [3]]),
            },
        }[own["mask"]]
        if not own["batched"]:
            query, key = query[1], query[1] if key is query else key[1]
            masks = {n: m[1] if n == "key_padding_mask" else m[2:4] if m.dim() == 3 else m for n, m in masks.items()}
        elif not own["batch_first"]:
            query, key = query.transpose(0, 1), query.transpose(0, 1) if key is query else key.transpose(0, 1)
        options = {"need_weights": own["weights"] != "none", "average_attn_weights": own["weights"] == "mean"}
        with torch.no_grad():
            y, weights = attention(query, key, key, **masks, **options)
            wanted, wanted_weights = plain(query, key, key, **masks, **options)
        torch.testing.assert_close(y, wanted, rtol=0, atol=1e-11, equal_nan=True, msg=str(own))
        if wanted_weights is None:
            assert weights is None
        else:
            torch.testing.assert_close(weights, wanted_weights, rtol=0, atol=1e-12, equal_nan=True, msg=str(own))


def test_an_attention_of_a_decoder_has_its_adapters_for_the_memory_too():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = nn.TransformerDecoderLayer(16, 2, 32, dropout=0.0, batch_first=True, dtype=torch.float64)
        plain = copy.deepcopy(layer)
    model = adapted("lora", layer, ["in_proj_weight", "out_proj"])
    disturb(model)
    plain.load_state_dict(unload(copy.deepcopy(model), keep_update=True).state_dict())
    x, memory = normal((3, 4, 16), torch.float64), normal((3, 6, 16), torch.float64, seed=5)
    torch.testing.assert_close(model(x, memory), plain(x, memory), rtol=0, atol=1e-12)


def test_other_attentions_keep_their_names_and_classes():
    model = encoder()
    model.layers[1].self_attn.in_proj_weight.data.zero_()  # of rank zero: no CUR can be chosen of it
    adapted("curlora", model, r"layers\.0\.self_attn\.in_proj_weight")
    assert type(model.layers[1].self_attn) is nn.MultiheadAttention
    assert type(model.layers[1]) is nn.TransformerEncoderLayer
    assert "layers.1.self_attn.in_proj_weight" in model.state_dict()
    fresh = encoder()
    fresh.layers[1].self_attn.in_proj_weight.data.zero_()
    with untouched(fresh), pytest.raises(ValueError, match="numerical rank"):
        adapted("curlora", fresh, ["in_proj_weight"])


def test_multihead_attention_alone():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        base = nn.MultiheadAttention(16, 2, batch_first=True, dtype=torch.float64)
    model = adapted("curlora", nn.Sequential(base), ["in_proj_weight", "out_proj"])
    assert count_parameters(model)[0] == 72


def test_a_class_of_the_users_that_reads_weights_is_refused():
    class Own(nn.TransformerEncoderLayer):
        pass

    model = nn.Sequential(Own(16, 2, 32, batch_first=True))
    with untouched(model), pytest.raises(TypeError, match=r"must be an nn.TransformerEncoderLayer itself.*Own"):
        adapted("lora", model, ["linear1"])


def test_lora_files_have_no_packed_projections(tmp_path):
    model = adapted("lora", encoder(), ["in_proj_weight"])
    with pytest.raises(ValueError, match=r"layers.0.self_attn.in_proj"):
        export_lora(model, tmp_path)


def test_attention_with_keys_of_another_width_has_no_packed_projection():
    model = nn.ModuleDict({"attention": nn.MultiheadAttention(16, 2, kdim=8, vdim=8)})
    with untouched(model), pytest.raises(ValueError, match="target_modules must be names in the model"):
        adapted("lora", model, ["in_proj_weight"])


class TwoNames(nn.Module):
    """One layer under two names of one parent and under one of another."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.a = nn.Linear(8, 8, dtype=torch.float64)
        self.b = self.a
        self.more = nn.ModuleList([self.a])

    def forward(self, x):
        return self.more[0](torch.sin(self.b(torch.tanh(self.a(x)))))


@pytest.mark.parametrize("kind", ["lora", "adalora", "curlora", "tcurlora"])
def test_a_layer_under_several_names_is_one_adapted_layer_under_all(kind, tmp_path):
    base = TwoNames()
    linear, x = base.a, normal((2, 8), torch.float64)
    model = adapted(kind, base, ["a"])
    assert base.a is base.b is base.more[0] is not linear
    disturb(model)
    y = model(x)
    assert torch.linalg.norm(y - TwoNames()(x)) > 1e-3
    merge(model)
    torch.testing.assert_close(model(x), y, rtol=0, atol=1e-12)
    unmerge(model)
    save_adapter(model, tmp_path)
    torch.testing.assert_close(load_adapter(TwoNames(), tmp_path)(x), y, rtol=0, atol=1e-12)
    merged = unload(copy.deepcopy(model), keep_update=True)
    torch.testing.assert_close(merged(x), y, rtol=0, atol=1e-12)
    assert merged.a is merged.b is merged.more[0]
    unload(model)
    assert base.a is base.b is base.more[0] is linear
