"""Both tuners on models of transformers: what must hold of any adapter, whatever it is put into."""

import copy
import warnings

import peft
import pytest
import torch
from adapted_models import FAMILIES, KINDS, adapted, config, ids, layers_of, llama, output, seeded, shake, trained

from curtensor.adapters.tuner import AdaptedParameter

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # which PEFT asks for
RANKS = {"curlora": {"r": 4}, "tcurlora": {"r": 4}}
CASES = [(family, kind) for family in FAMILIES for kind in RANKS]


def family_with_adapters(family, kind):
    make, inputs, targets = FAMILIES[family]
    base = seeded(make)
    before = output(base, inputs())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the rank of")
        model = adapted(kind, base, **RANKS[kind], **targets)
    return model, inputs(), before


@pytest.mark.parametrize(("family", "kind"), CASES)
def test_starts_as_the_base_and_trains_its_adapters_alone(family, kind):
    model, inputs, before = family_with_adapters(family, kind)
    bound = 1e-6 if family == "mamba" else 0.0  # whose products go by the strides of what a layer gives; LoRA as well
    torch.testing.assert_close(output(model, inputs), before, rtol=0, atol=bound)
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    assert names and all(kind in name or "modules_to_save" in name for name in names)
    found = model(**inputs)
    (found.logits if hasattr(found, "logits") else found.logits_per_image).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in trained(model))
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)


@pytest.mark.parametrize(("family", "kind"), CASES)
def test_merged_equals_unmerged_equals_dense_weights_in_float64(family, kind):
    model, inputs, _ = family_with_adapters(family, kind)
    shake(model)
    y = output(model, inputs)
    exact = copy.deepcopy(model).double()
    if family == "mixtral":  # whose default has no float64
        exact.set_experts_implementation("eager")
    for layer in layers_of(exact):
        layer.base_weight.data += layer.get_delta_weight("default")
    with exact.disable_adapter():
        if family == "bert":  # whose classifier is trained whole, and disabled with the adapters
            exact.base_model.model.classifier.enable_adapters(True)
        inputs64 = {name: x.double() if x.is_floating_point() else x for name, x in inputs.items()}
        dense = output(exact, inputs64)
    tolerance = 1e-5 * dense.abs().max()
    assert (y - dense).abs().max() < tolerance
    weights = [layer.base_weight.clone() for layer in layers_of(model)]
    model.merge_adapter()
    assert (output(model, inputs) - y).abs().max() < tolerance
    model.unmerge_adapter()
    assert all(torch.equal(layer.base_weight, W) for layer, W in zip(layers_of(model), weights, strict=True))
    assert torch.equal(output(model, inputs), y)
    merged = model.merge_and_unload()
    assert not layers_of(merged)
    assert (output(merged, inputs) - y).abs().max() < tolerance


@pytest.mark.parametrize("low_cpu_mem_usage", [False, True])
@pytest.mark.parametrize(("family", "kind"), CASES)
def test_saved_and_loaded_is_equal(family, kind, low_cpu_mem_usage, tmp_path):
    model, inputs, _ = family_with_adapters(family, kind)
    y = output(shake(model), inputs)
    model.save_pretrained(tmp_path)
    base = seeded(FAMILIES[family][0])
    loaded = peft.PeftModel.from_pretrained(base, tmp_path, low_cpu_mem_usage=low_cpu_mem_usage)
    assert torch.equal(output(loaded, inputs), y)


@pytest.mark.parametrize("kind", RANKS)
def test_generates_the_same_with_and_without_a_cache(kind):
    model, _, _ = family_with_adapters("llama", kind)
    shake(model)
    options = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    assert torch.equal(*(model.generate(input_ids=ids(), use_cache=cache, **options) for cache in (True, False)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_that_is_tied_to_the_embedding_is_merged_alone(kind, tmp_path):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*tie_word_embeddings")
        model = adapted(kind, seeded(lambda: llama(tie_word_embeddings=True)), ["lm_head"], r=3)
        y = output(shake(model), {"input_ids": ids()})
        table = model.get_base_model().get_input_embeddings().weight
        before = table.detach().clone()
        model.merge_adapter()
        assert torch.equal(table, before)
        torch.testing.assert_close(output(model, {"input_ids": ids()}), y, rtol=0, atol=1e-5)
        model.unmerge_adapter()
        assert model.base_model.model.lm_head.base_layer.weight is table
        model.save_pretrained(tmp_path, save_embedding_layers=False)
        loaded = peft.PeftModel.from_pretrained(seeded(lambda: llama(tie_word_embeddings=True)), tmp_path)
    assert torch.equal(output(loaded, {"input_ids": ids()}), y)


def test_the_experts_of_all_layers_share_one_core():
    model, _, _ = family_with_adapters("mixtral", "tcurlora")
    sizes = sorted(tuple(core.shape) for core in trained(model))
    assert sizes == [(4, 4, 2), (4, 4, 8), (4, 4, 8)]
    wrappers = [layer for layer in layers_of(model) if isinstance(layer, AdaptedParameter)]
    assert len(wrappers) == 4


def test_what_mamba_reads_past_the_layer_is_refused():
    with pytest.raises(ValueError, match="out_proj"):
        adapted("curlora", seeded(FAMILIES["mamba"][0]), ["out_proj"])


def test_all_linear_gives_layers_with_a_short_side_what_they_have(tmp_path):
    make, inputs, _ = FAMILIES["bert"]
    with pytest.warns(UserWarning, match="classifier"):
        model = adapted("curlora", seeded(make), "all-linear", r=16)
    assert model.base_model.model.classifier.deltas["default"].U.shape == (2, 2)
    y = output(shake(model), inputs())
    model.save_pretrained(tmp_path)
    assert torch.equal(output(peft.PeftModel.from_pretrained(seeded(make), tmp_path), inputs()), y)
    with pytest.raises(ValueError, match="rank of 'classifier' must be between 1 and 2, got 16"):
        adapted("curlora", seeded(make), ["classifier"], r=16)


@pytest.mark.parametrize("kind", RANKS)
def test_default_targets_are_those_of_lora(kind):
    model = peft.get_peft_model(seeded(llama), config(kind, r=4))
    assert {layer.key.rsplit(".", 1)[-1] for layer in layers_of(model)} == {"q_proj", "v_proj"}
