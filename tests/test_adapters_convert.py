import copy
import pickle
import random
import re

import numpy as np
import pytest
import torch
from torch import nn
from torch_models import KINDS, Stack, adapted, disturb, normal, snapshot, stack, trained, untouched

from curtensor.adapters import (
    AdaptedLinear,
    adapter_parameters,
    convert_to_curlora,
    convert_to_lora,
    convert_to_tcurlora,
    count_parameters,
    disabled,
    merge,
    print_trainable_parameters,
    unload,
    unmerge,
)

TARGETS = ["query", "fc1"]


def names_of(model):
    return [name for name, module in model.named_modules() if isinstance(module, AdaptedLinear)]


def converted(targets, **options):
    return names_of(convert_to_curlora(stack(), targets, rank=4, progress=False, rng=0, **options))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_output_is_the_bases_to_the_bit_after_conversion(kind, dtype):
    model = stack(dtype)
    x = normal((2, 5, 24), dtype)
    y = model(x)
    assert adapted(kind, model, TARGETS) is model
    assert torch.equal(model(x), y)


@pytest.mark.parametrize("kind", KINDS)
def test_trained_numbers_are_the_formula(kind):
    model = adapted(kind, stack(), ["query", "fc1"])
    count = KINDS[kind][2]
    assert count_parameters(model)[0] == count(24, 24, 3) + count(40, 24, 3)
    assert count_parameters(model)[1] == count_parameters(stack())[1] + count_parameters(model)[0]
    assert sum(p.numel() for p in adapter_parameters(model)) == count_parameters(model)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_each_adapter_gets_a_gradient_and_steps_move_it_and_nothing_else(kind):
    model = adapted(kind, stack(torch.float64), TARGETS, modules_to_save=["head"])
    before = copy.deepcopy(model)
    parameters = adapter_parameters(model)
    assert {id(p) for p in parameters} | {id(p) for p in model.head.parameters()} == {id(p) for p in trained(model)}
    optimizer = torch.optim.SGD(trained(model), lr=0.1)
    x, target = normal((4, 24), torch.float64), normal((4, 8), torch.float64, seed=3)
    for _ in range(2):  # one factor of a product starts at zero, the other moves in the second step
        optimizer.zero_grad()
        (model(x) - target).square().sum().backward()
        assert all(p.grad is not None for p in trained(model))
        optimizer.step()
    moving = {name for name, p in model.named_parameters() if p.requires_grad}
    for (name, was), now in zip(before.state_dict().items(), model.state_dict().values(), strict=True):
        assert torch.equal(was, now) == (name not in moving), name


@pytest.mark.parametrize("kind", KINDS)
def test_merge_unmerge_and_disabling(kind):
    model = stack(torch.float64)
    x = normal((4, 24), torch.float64)
    base, weights = model(x), [p.clone() for p in model.parameters()]
    adapted(kind, model, TARGETS)
    disturb(model)
    y, state = model(x), snapshot(model)
    assert torch.linalg.norm(y - base) > 1e-3
    merge(model)
    assert torch.linalg.norm(model(x) - y) <= 1e-12 * torch.linalg.norm(y)
    with disabled(model):
        assert torch.equal(model(x), base)
    assert model.blocks[0].query.merged
    assert torch.linalg.norm(model(x) - y) <= 1e-12 * torch.linalg.norm(y)
    unmerge(model)
    assert all(torch.equal(a, b) for a, b in zip(state[0].values(), model.state_dict().values(), strict=True))
    assert torch.equal(model(x), y)
    with disabled(model), torch.inference_mode():
        assert torch.equal(model(x), base)
    assert torch.equal(model(x), y)
    assert unload(model) is model
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))
    assert torch.equal(model(x), base)


@pytest.mark.parametrize("merged", [True, False])
def test_unload_can_keep_the_update(merged):
    model = adapted("curlora", stack(torch.float64), TARGETS, modules_to_save=["head"])
    disturb(model)
    x = normal((4, 24), torch.float64)
    y = model(x)
    if merged:
        merge(model)
    unload(model, keep_update=True)
    assert names_of(model) == []
    assert torch.linalg.norm(model(x) - y) <= 1e-12 * torch.linalg.norm(y)
    adapted("curlora", model, TARGETS)


def test_disabling_ends_with_an_error_inside():
    model = adapted("curlora", stack(), TARGETS)
    disturb(model)
    y = model(normal((4, 24)))
    with pytest.raises(KeyboardInterrupt), disabled(model):
        raise KeyboardInterrupt
    assert torch.equal(model(normal((4, 24))), y)


@pytest.mark.parametrize(
    "how", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["copy", "pickle"]
)
@pytest.mark.parametrize("kind", KINDS)
def test_copies_and_pickles_behave_alike_and_share_within_themselves(kind, how):
    model = adapted(kind, stack(), TARGETS)
    disturb(model)
    other = how(model)
    x = normal((4, 24))
    assert torch.equal(other(x), model(x))
    assert count_parameters(other) == count_parameters(model)
    disturb(other, seed=5)
    apart = other(x)
    assert not torch.equal(apart, model(x))
    merge(other)
    torch.testing.assert_close(other(x), apart, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_dtype_changes_reach_every_part(kind):
    model = adapted(kind, stack(), TARGETS)
    disturb(model)
    y = model(normal((4, 24)))
    torch.testing.assert_close(model.double()(normal((4, 24)).double()), y.double(), rtol=0, atol=1e-4)
    floats = {t.dtype for t in [*model.state_dict().values()] if t.is_floating_point()}
    assert floats == {torch.float64}


@pytest.mark.parametrize("kind", KINDS)
def test_state_dict_restores_the_model(kind):
    model = adapted(kind, stack(), TARGETS, rng=1)
    disturb(model)
    other = adapted(kind, stack(seed=3), TARGETS, rng=2)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(normal((4, 24))), model(normal((4, 24))))


@pytest.mark.parametrize(
    "how",
    [lambda model: model, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))],
    ids=["", "copy", "pickle"],
)
@pytest.mark.parametrize("into_merged", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_state_dict_of_a_merged_model_holds_the_weights_without_the_updates(kind, into_merged, how):
    model = adapted(kind, stack(), TARGETS, rng=1)
    disturb(model)
    x = normal((4, 24))
    y, state = model(x), copy.deepcopy(model.state_dict())
    merge(model)
    model = how(model)
    saved = model.state_dict()
    assert list(saved) == list(state)
    assert all(torch.equal(saved[name], tensor) for name, tensor in state.items())
    other = adapted(kind, stack(seed=3), TARGETS, rng=2)
    disturb(other)
    if into_merged:
        merge(other)
        other = how(other)
    other.load_state_dict(saved)
    assert not other.blocks[0].query.merged
    assert torch.equal(other(x), y)
    merge(other)
    assert torch.equal(other(x), model(x))
    assert model.blocks[0].query.merged


@pytest.mark.parametrize("kind", KINDS)
def test_shared_memory_is_registered_once(kind, tmp_path):
    from safetensors.torch import save_model

    model = adapted(kind, stack(), TARGETS)
    pointers = [tensor.data_ptr() for tensor in model.state_dict().values() if tensor.numel()]
    assert len(set(pointers)) == len(pointers)
    save_model(model, tmp_path / "model.safetensors")


@pytest.mark.parametrize("kind", KINDS)
def test_global_random_states_are_left_alone(kind):
    model, states = stack(), (torch.random.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())  # noqa: NPY002
    adapted(kind, model, TARGETS, rng=None)
    assert torch.equal(torch.random.get_rng_state(), states[0])
    np.testing.assert_array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    assert random.getstate() == states[2]


@pytest.mark.parametrize("kind", ["lora", "lora-cur", "curlora", "curlora-raw", "adalora"])
def test_what_a_layer_gets_depends_on_the_seed_and_its_name_alone(kind):
    def state(targets, rng=0):
        model = adapted(kind, stack(), targets, method="uniform", rng=rng)
        return list(model.blocks[1].fc1.delta.state_dict().values())

    first, same, other = state(["blocks.1.fc1"]), state("all-linear"), state("all-linear", rng=1)
    assert all(torch.equal(a, b) for a, b in zip(first, same, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_training_flags_are_kept():
    model = stack()
    model.blocks[1].eval()
    adapted("curlora", model, TARGETS)
    assert model.blocks[0].query.training
    assert model.blocks[0].query.delta.training
    assert not model.blocks[1].query.training
    assert not model.blocks[1].query.delta.training


def test_effective_weight_is_read_and_carries_gradients():
    model = adapted("curlora", stack(torch.float64), TARGETS)
    disturb(model)
    layer = model.blocks[0].fc1
    x = normal((4, 24), torch.float64)
    torch.testing.assert_close(nn.functional.linear(x, layer.weight, layer.bias), layer(x))
    assert layer.weight.requires_grad
    assert (layer.in_features, layer.out_features) == (24, 40)
    with disabled(model):
        assert torch.equal(layer.weight, layer.base_layer.weight)


def test_a_list_means_names_or_ends_of_names():
    assert converted(["fc1"]) == [f"blocks.{i}.fc1" for i in range(3)]  # and not fc10
    assert converted(["blocks.1.fc10", "head"]) == ["blocks.1.fc10", "head"]


def test_a_str_is_a_whole_regular_expression():
    assert converted(r".*\.fc1") == [f"blocks.{i}.fc1" for i in range(3)]
    assert converted(r"blocks\.[02]\.(query|fc10)") == [
        f"blocks.{i}.{name}" for i in (0, 2) for name in ("query", "fc10")
    ]
    with pytest.raises(ValueError, match="target_modules must be names of modules"):
        converted("fc1")


def test_all_linear_means_all_but_a_language_models_output():
    assert len(converted("all-linear", layers_to_transform=[0, 2])) == 6
    Named = type("Named", (Stack,), {"get_output_embeddings": lambda self: self.head})
    found = names_of(convert_to_curlora(Named(), "all-linear", rank=3, progress=False, rng=0))
    assert len(found) == 9
    assert "head" not in found


def test_exclusion_and_layer_numbers_narrow_the_choice():
    assert converted(["query", "fc1"], exclude_modules=["blocks.1.fc1", "blocks.2.query"]) == [
        "blocks.0.query", "blocks.0.fc1", "blocks.1.query", "blocks.2.fc1",
    ]  # fmt: skip
    assert converted(["fc1"], layers_to_transform=1) == ["blocks.1.fc1"]
    assert converted(["fc1"], layers_to_transform=np.int64(1)) == ["blocks.1.fc1"]


def test_a_mapping_gives_options_by_pattern():
    targets = {r"blocks\.0\.query": {"rank": 2}, "query": {}, "fc.*": {"rank": 5, "basis": "raw"}}
    model = convert_to_curlora(stack(), targets, rank=3, progress=False, rng=0)
    assert [len(model.blocks[i].query.delta.U) for i in range(3)] == [2, 3, 3]
    assert [len(model.blocks[i].fc10.delta.U) for i in range(3)] == [5, 5, 5]
    assert torch.equal(
        model.blocks[0].fc1.delta.C, model.blocks[0].fc1.base_weight[:, model.blocks[0].fc1.delta.columns]
    )


def test_groups_are_layers_of_one_name_unless_said_otherwise():
    model = convert_to_tcurlora(stack(), ["query", "fc1"], ranks=4, progress=False, rng=0)
    groups = {name: id(model.get_submodule(name).delta.shared[0]) for name in names_of(model)}
    assert len(set(groups.values())) == 2
    assert len({groups[f"blocks.{i}.query"] for i in range(3)}) == 1
    model = convert_to_tcurlora(stack(), ["query"], ranks=4, group_by=lambda name: name[-7], progress=False, rng=0)
    assert count_parameters(model)[0] == 3 * 16


def test_a_layer_with_two_parents_is_adapted_in_both():
    model = nn.ModuleDict({"a": nn.Sequential(nn.Linear(9, 9)), "b": nn.Sequential()})
    model["b"].append(model["a"][0])
    convert_to_curlora(model, ["a.0"], rank=2, progress=False, rng=0)
    assert model["a"][0] is model["b"][0]
    assert isinstance(model["b"][0], AdaptedLinear)


def test_merging_leaves_a_tied_weight_alone():
    model = nn.ModuleDict({"embedding": nn.Embedding(12, 9), "out": nn.Linear(9, 12, bias=False)})
    model["out"].weight = model["embedding"].weight
    before = model["embedding"].weight.clone()
    convert_to_curlora(model, ["out"], rank=2, progress=False, rng=0)
    disturb(model)
    merge(model)
    assert torch.equal(model["embedding"].weight, before)
    assert not torch.equal(model["out"].weight, before)
    unload(model)
    assert model["out"].weight.data_ptr() == model["embedding"].weight.data_ptr()


def test_progress_is_shown_when_asked_for(capsys):
    convert_to_curlora(stack(), ["query"], rank=2, rng=0)
    assert "3/3" in capsys.readouterr().err
    convert_to_curlora(stack(), ["query"], rank=2, rng=0, progress=False)
    assert capsys.readouterr().err == ""


def test_parameters_are_printed_in_pefts_words(capsys):
    print_trainable_parameters(adapted("curlora", stack(), TARGETS))
    trainable, total = count_parameters(adapted("curlora", stack(), TARGETS))
    words = f"trainable params: {trainable:,d} || all params: {total:,d} || trainable%: {100 * trainable / total:.4f}\n"
    assert capsys.readouterr().out == words


def damaged(where, value):
    model = stack()
    model.blocks[2].query.weight.data[where] = value
    return model


def meta():
    model = stack()
    model.blocks[2].query.to("meta")
    return model


def integers():
    model = stack()
    model.blocks[2].query.weight = nn.Parameter(torch.zeros(24, 24, dtype=torch.int8), requires_grad=False)
    return model


def lazy():
    model = stack()
    model.blocks[2].query = nn.LazyLinear(24)
    return model


def parametrized():
    model = stack()
    nn.utils.parametrizations.weight_norm(model.blocks[2].query)
    return model


def low_rank():
    model = stack()
    model.blocks[2].query.weight.data[:] = torch.outer(torch.arange(24.0), torch.ones(24))
    return model


def unequal():
    model = stack()
    model.blocks[2].query = nn.Linear(24, 30)
    return model


# what is wrong: (model, conversion, arguments, error, part of the message)
BAD_INPUT = {
    "misspelt target": (stack, convert_to_lora, {"target_modules": ["qeury"]}, ValueError, "'query'.*got 'qeury'"),
    "target like a substring": (stack, convert_to_lora, {"target_modules": ["fc"]}, ValueError, "got 'fc'"),
    "one of two names misspelt": (stack, convert_to_lora, {"target_modules": ["fc1", "fc2"]}, ValueError, "got 'fc2'"),
    "pattern without a match": (stack, convert_to_lora, {"target_modules": "fc1"}, ValueError, "got 'fc1'"),
    "no regular expression": (stack, convert_to_lora, {"target_modules": "(fc"}, ValueError, "regular expression"),
    "key without a match": (stack, convert_to_lora, {"target_modules": {"key": {}}}, ValueError, "got 'key'"),
    "unknown option of a key": (
        stack, convert_to_lora, {"target_modules": {"fc1": {"ranks": 3}}}, ValueError, "rank, alpha, init, method",
    ),
    "no targets": (stack, convert_to_lora, {"target_modules": []}, ValueError, "at least one name"),
    "no patterns": (stack, convert_to_lora, {"target_modules": {}}, ValueError, "at least one name"),
    "nothing linear": (
        lambda: nn.Sequential(nn.ReLU()), convert_to_lora, {"target_modules": "all-linear"}, ValueError, "no Linear or",
    ),
    "a layer alone": (lambda: nn.Linear(9, 9), convert_to_lora, {}, ValueError, "model must be one with modules in it"),
    "no list of exclusions": (stack, convert_to_lora, {"exclude_modules": None}, TypeError, "exclude_modules must"),
    "a number as target": (stack, convert_to_lora, {"target_modules": 3}, TypeError, "a list of names, got 3"),
    "target that is no linear layer": (
        stack, convert_to_lora, {"target_modules": ["norm"]}, TypeError, "'norm' must be a torch.nn.Linear.*LayerNorm",
    ),
    "all excluded": (
        stack, convert_to_lora, {"target_modules": ["fc1"], "exclude_modules": ["fc1"]}, ValueError, "exclude_modules",
    ),
    "misspelt exclusion": (
        stack, convert_to_lora, {"target_modules": ["fc1"], "exclude_modules": ["fc2"]}, ValueError, "exclude_modules",
    ),
    "a layer number not there": (
        stack, convert_to_lora, {"target_modules": ["fc1"], "layers_to_transform": [3]}, ValueError, "[0, 1, 2]",
    ),
    "no layer number": (
        stack, convert_to_lora, {"target_modules": ["fc1"], "layers_to_transform": []}, ValueError, "at least one",
    ),
    "saved module not there": (
        stack, convert_to_lora, {"target_modules": ["fc1"], "modules_to_save": ["haed"]}, ValueError, "'head'",
    ),
    "saved module holds a target": (
        stack, convert_to_lora, {"target_modules": ["fc1"], "modules_to_save": ["blocks"]}, ValueError, "'blocks'",
    ),
    "rank too large": (stack, convert_to_curlora, {"rank": 25}, ValueError, "rank of 'blocks.0.query'.*24, got 25"),
    "rank zero": (stack, convert_to_lora, {"rank": 0}, ValueError, "between 1 and 24, got 0"),
    "rank no integer": (stack, convert_to_lora, {"rank": 4.0}, TypeError, "an integer, got 4.0"),
    "alpha zero": (stack, convert_to_lora, {"alpha": 0}, ValueError, "alpha must be above 0"),
    "scale a word": (stack, convert_to_curlora, {"scale": "1"}, TypeError, "scale must be a number"),
    "unknown init": (stack, convert_to_lora, {"init": "pissa"}, ValueError, "one of kaiming, cur, cur_residual"),
    "unknown basis": (stack, convert_to_curlora, {"basis": "svd"}, ValueError, "one of orthonormal, raw"),
    "unknown rule": (stack, convert_to_curlora, {"method": "best"}, ValueError, "inverse_norm"),
    "a form that is no name": (stack, convert_to_tcurlora, {"form": print}, TypeError, "form must be one of shared_"),
    "unknown form": (stack, convert_to_tcurlora, {"form": "tucker"}, ValueError, "tubal"),
    "two ranks": (stack, convert_to_tcurlora, {"ranks": (4, 4)}, ValueError, "three ints, got (4, 4)"),
    "third rank too large": (stack, convert_to_tcurlora, {"ranks": (4, 4, 4)}, ValueError, "r_3 must be between 1 and"),
    "three ranks for the t-product": (
        stack, convert_to_tcurlora, {"ranks": (4, 4, 3), "form": "tubal"}, ValueError, "an int, got",
    ),
    "bad seed": (stack, convert_to_lora, {"rng": -1}, ValueError, "rng"),
    "meta tensor": (meta, convert_to_lora, {}, ValueError, "'blocks.2.query' must be a tensor with data"),
    "integers": (integers, convert_to_lora, {}, TypeError, "'blocks.2.query'.*int8"),
    "lazy layer": (lazy, convert_to_lora, {}, ValueError, "'blocks.2.query'.*lazy"),
    "parametrized layer": (parametrized, convert_to_lora, {}, ValueError, "'blocks.2.query'.*parametrized"),
    "NaN": (
        lambda: damaged((3, 4), np.nan), convert_to_lora, {}, ValueError, "'blocks.2.query' must be finite.*(3, 4)",
    ),
    "infinity": (lambda: damaged((0, 1), np.inf), convert_to_curlora, {}, ValueError, "must be finite.*(0, 1)"),
    "numerical rank too low": (
        low_rank, convert_to_curlora, {"rank": 4}, ValueError, "'blocks.2.query'.*rank at least 4.*got 1",
    ),
    "unequal shapes in a group": (
        unequal, convert_to_tcurlora, {}, ValueError, "'blocks.2.query'.*(24, 24).*'blocks.0.query'.*got (30, 24)",
    ),
    "group_by no function": (stack, convert_to_tcurlora, {"group_by": "name"}, TypeError, "group_by must be callable"),
    "a second conversion": (
        lambda: adapted("lora", stack(), ["fc1"]), convert_to_lora, {}, ValueError, "without adapters.*'blocks.0.fc1'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong", BAD_INPUT)
def test_bad_input_is_refused_and_the_model_stays_as_it_was(wrong):
    make, conversion, arguments, error, message = BAD_INPUT[wrong]
    model = make()
    arguments = {"target_modules": ["query"], "progress": False, "rng": 0} | arguments
    message = re.sub(r"([()\[\]])", r"\\\1", message)
    if wrong in ("meta tensor", "lazy layer"):
        with pytest.raises(error, match=message):
            conversion(model, **arguments)
        assert names_of(model) == []
        assert all(p.requires_grad for p in model.parameters())
    else:
        with untouched(model), pytest.raises(error, match=message):
            conversion(model, **arguments)


def test_what_is_no_module_is_refused():
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module"):
        convert_to_lora({"fc1": 1}, ["fc1"])
    with pytest.raises(ValueError, match="without adapters"):
        convert_to_lora(adapted("lora", stack(), ["fc1"]).blocks[0].fc1, ["base_layer"])


def test_an_interrupt_leaves_the_model_as_it_was(monkeypatch):
    model, calls = stack(), []

    def interrupt(basis, residual, k, rng):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return np.arange(k)

    with untouched(model), pytest.raises(KeyboardInterrupt):
        convert_to_curlora(model, ["query"], rank=2, method=interrupt, progress=False)


def test_merging_twice_is_refused():
    model = adapted("curlora", stack(), TARGETS)
    with untouched(model), pytest.raises(ValueError, match=r"'blocks.0.query' must be merged to be unmerged"):
        unmerge(model)
    merge(model)
    with untouched(model), pytest.raises(ValueError, match=r"'blocks.0.query' must be unmerged to be merged"):
        merge(model)
    unmerge(model)
    model.blocks[1].query.merge()
    with untouched(model), pytest.raises(ValueError, match=r"'blocks.1.query'"):
        merge(model)
    assert not model.blocks[0].query.merged


@pytest.mark.parametrize("call", [merge, lambda model: unload(model, keep_update=True)], ids=["merge", "unload"])
def test_nan_is_never_merged(call):
    model = adapted("curlora", stack(), TARGETS)
    model.blocks[2].fc1.delta.U.data[0, 0] = np.nan
    with untouched(model), pytest.raises(ValueError, match=r"'blocks.2.fc1' must be finite"):
        call(model)
    assert not model.blocks[0].query.merged


@pytest.mark.parametrize(
    "call", [merge, unmerge, unload, adapter_parameters, lambda model: disabled(model).__enter__()]
)
def test_a_model_without_adapters_is_refused(call):
    with pytest.raises(ValueError, match="model must be one with adapters, got none"):
        call(stack())
