"""The doors to PEFT: what they make, merge, take out, and refuse with the model as it was."""

import copy
import pickle
import re

import numpy as np
import peft
import pytest
import torch
from torch import nn
from torch_models import KINDS, adapted, disturb, normal, stack, trained, untouched

from curtensor.adapters import (
    adapter_parameters,
    convert_to_adalora,
    convert_to_curlora,
    convert_to_lora,
    convert_to_tcurlora,
    count_parameters,
    merge,
    print_trainable_parameters,
    unload,
    unmerge,
)

TARGETS = ["query", "fc1"]
EXACT = [kind for kind in KINDS if kind != "lora-residual"]


@pytest.mark.parametrize("kind", KINDS)
def test_starts_as_the_base_and_trains_what_the_formula_says(kind):
    base, x = stack(torch.float64), normal((5, 24), torch.float64)
    y = base(x)
    model = adapted(kind, base, ["query"])
    assert isinstance(model, peft.PeftModel)
    torch.testing.assert_close(model(x), y, rtol=0, atol=1e-13 if kind == "lora-residual" else 0)
    assert count_parameters(model)[0] == KINDS[kind][2](24, 24, 3)
    assert sum(p.numel() for p in adapter_parameters(model)) == count_parameters(model)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_steps_move_each_adapter_and_nothing_else(kind):
    model = adapted(kind, stack(), TARGETS, modules_to_save=["head"])
    disturb(model)
    before = {name: p.clone() for name, p in model.named_parameters()}
    optimiser = torch.optim.SGD(trained(model), lr=0.1)
    model(normal((5, 24))).square().sum().backward()
    optimiser.step()
    for name, p in model.named_parameters():
        own = "modules_to_save" in name or (p is not None and any(p is other for other in adapter_parameters(model)))
        assert torch.equal(p, before[name]) != own, name


@pytest.mark.parametrize("kind", KINDS)
def test_merging_disabling_and_unloading(kind):
    base, x = stack(torch.float64), normal((5, 24), torch.float64)
    names, plain = list(base.state_dict()), base(x)
    model = adapted(kind, base, TARGETS)
    disturb(model)
    y, state = model(x), copy.deepcopy(model.state_dict())
    assert torch.linalg.norm(y - plain) > 1e-3
    if kind in EXACT:
        with model.disable_adapter():
            assert torch.equal(model(x), plain)
    merge(model)
    torch.testing.assert_close(model(x), y, rtol=0, atol=1e-12)
    unmerge(model)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    for start, keep_update in ((copy.deepcopy(model), True), (model, False)):
        taken = unload(start, keep_update=keep_update)
        torch.testing.assert_close(taken(x), y if keep_update else plain, rtol=0, atol=1e-12)
        assert list(taken.state_dict()) == names
    assert taken is base
    if kind in EXACT:
        assert torch.equal(base(x), plain)


def test_what_is_merged_stays_merged_when_the_adapters_go():
    model, x = adapted("lora", stack(), TARGETS), normal((5, 24))
    disturb(model)
    y = model(x)
    merge(model)
    torch.testing.assert_close(unload(model)(x), y)


@pytest.mark.parametrize(
    "how", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["copy", "pickle"]
)
@pytest.mark.parametrize("kind", KINDS)
def test_copies_behave_alike_and_share_nothing_with_the_original(kind, how):
    model, x = adapted(kind, stack(), TARGETS), normal((5, 24))
    disturb(model)
    merge(model)
    other = how(model)
    y = model(x)
    assert torch.equal(other(x), y)
    unmerge(other)
    disturb(other, seed=5)
    assert not torch.allclose(other(x), y)
    assert torch.equal(model(x), y)


@pytest.mark.parametrize("kind", KINDS)
def test_global_random_states_are_left_alone_and_a_seed_repeats_itself(kind):
    torch.manual_seed(4)
    state = torch.get_rng_state()
    first, second = (adapted(kind, stack(), TARGETS, rng=7).state_dict() for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    if kind in ("lora", "curlora-raw"):  # the others choose of a sketch as large as these weights
        other = adapted(kind, stack(), TARGETS, rng=8).state_dict()
        assert any(not torch.equal(first[name], other[name]) for name in first)


def test_layers_are_counted_where_peft_counts_them_within_a_wrapper():
    model = nn.Sequential(
        nn.ModuleDict({"layer": nn.ModuleList([nn.ModuleDict({"query": nn.Linear(8, 8)}) for _ in range(4)])})
    )
    model = convert_to_curlora(model, ["query"], rank=2, layers_to_transform=[3], progress=False)
    assert model.base_model.targeted_module_names == ["0.layer.3.query"]


@pytest.mark.parametrize("init", ["kaiming", "cur", "cur_residual"])
def test_all_linear_takes_a_head_that_is_narrower_than_the_rank(init):
    model = convert_to_lora(stack(), "all-linear", rank=12, init=init, progress=False, rng=0)
    head = model.get_base_model().head
    assert head.r["default"] == (12 if init == "kaiming" else 8)
    assert head.scaling["default"] == 2


def test_options_of_peft_reach_its_configuration():
    model = convert_to_lora(stack(), ["query"], use_rslora=True, lora_dropout=0.5, rank_pattern={"blocks.1.query": 3})
    layers = model.get_base_model().blocks
    assert [block.query.r["default"] for block in layers] == [8, 3, 8]
    assert layers[0].query.scaling["default"] == 16 / 8**0.5
    with pytest.raises(TypeError, match="use_magic"):
        convert_to_lora(stack(), ["query"], use_magic=True)


def test_adalora_takes_its_ranks_down_where_steps_are_told():
    model = convert_to_adalora(
        stack(), ["query"], rank=6, target_rank=2, total_steps=10, tinit=1, tfinal=2, progress=False
    )
    optimiser = torch.optim.SGD(trained(model), lr=0.1)
    for step in range(10):
        model(normal((5, 24), seed=step)).square().sum().backward()
        optimiser.step()
        model.base_model.update_and_allocate(step)
        optimiser.zero_grad()
    kept = sum(int((block.query.lora_E["default"] != 0).sum()) for block in model.get_base_model().blocks)
    assert kept == 3 * 2
    fixed = convert_to_adalora(stack(), ["query"], rank=6, progress=False)
    model(normal((5, 24))).sum().backward()
    fixed(normal((5, 24))).sum().backward()
    fixed.base_model.update_and_allocate(10**6)


def test_progress_is_shown_when_asked_for(capsys):
    for convert in (convert_to_curlora, convert_to_adalora):
        convert(stack(), ["query"], rank=2, progress=False)
        assert capsys.readouterr().err == ""
        convert(stack(), ["query"], rank=2)
        assert "choose" in capsys.readouterr().err


def test_parameters_are_printed_in_pefts_words(capsys):
    model = convert_to_lora(stack(), ["query"], rank=2)
    print_trainable_parameters(model)
    ours = capsys.readouterr().out
    model.print_trainable_parameters()
    assert ours == capsys.readouterr().out


def damaged(where, value):
    model = stack()
    model.blocks[2].query.weight.data[where] = value
    return model


def changed(change):
    model = stack()
    change(model.blocks[2])
    return model


def integers(block):
    block.query.weight = nn.Parameter(torch.zeros(24, 24, dtype=torch.int8), requires_grad=False)


def low_rank(block):
    block.query.weight.data[:] = torch.outer(torch.arange(24.0), torch.ones(24))


def unequal(block):
    block.query = nn.Linear(24, 30)


CUR = {"init": "cur"}
# what is wrong: (model, conversion, arguments, error, part of the message)
BAD_INPUT = {
    "misspelt target": (stack, convert_to_lora, {"target_modules": ["qeury"]}, ValueError, "'query'.*got 'qeury'"),
    "target like a substring": (stack, convert_to_lora, {"target_modules": ["fc"]}, ValueError, "got 'fc'"),
    "one of two": (stack, convert_to_curlora, {"target_modules": ["fc1", "fc2"]}, ValueError, "got 'fc2'"),
    "pattern without a match": (stack, convert_to_lora, {"target_modules": "fc1"}, ValueError, "got 'fc1'"),
    "no regular expression": (stack, convert_to_lora, {"target_modules": "(fc"}, ValueError, "regular expression"),
    "no targets": (stack, convert_to_lora, {"target_modules": []}, ValueError, "target_modules"),
    "nothing linear": (
        lambda: nn.Sequential(nn.ReLU()), convert_to_lora, {"target_modules": "all-linear"}, ValueError, "target_mod",
    ),
    "a layer alone": (lambda: nn.Linear(9, 9), convert_to_lora, {}, ValueError, "target_modules must"),
    "a number as target": (stack, convert_to_lora, {"target_modules": 3}, TypeError, "got 3"),
    "target that is no linear layer": (stack, convert_to_lora, {"target_modules": ["norm"]}, ValueError, "LayerNorm"),
    "all excluded": (
        stack, convert_to_lora, {"target_modules": ["fc1"], "exclude_modules": ["fc1"]}, ValueError, "exclude",
    ),
    "misspelt exclusion": (
        stack, convert_to_lora, {"target_modules": ["fc1"], "exclude_modules": ["fc2"]}, ValueError, "exclude_modules",
    ),
    "a layer number not there": (
        lambda: nn.Sequential(stack()), convert_to_lora, {"target_modules": ["fc1"], "layers_to_transform": [0, 3]},
        ValueError, "got 3",
    ),
    "saved module not there": (
        stack, convert_to_lora, {"target_modules": ["fc1"], "modules_to_save": ["haed"]}, ValueError, "'head'",
    ),
    "a parameter": (stack, convert_to_lora, {"target_parameters": ["qeury.weight"]}, ValueError, "parameters must"),
    "rank too large": (stack, convert_to_curlora, {"rank": 25}, ValueError, "rank of 'blocks.0.query'.*24, got 25"),
    "rank too large for a start": (stack, convert_to_lora, {"rank": 25} | CUR, ValueError, "at least 25.*got 24"),
    "rank zero": (stack, convert_to_lora, {"rank": 0}, ValueError, "rank must be between 1 and"),
    "rank no integer": (stack, convert_to_lora, {"rank": 4.0}, TypeError, "an integer, got 4.0"),
    "alpha zero": (stack, convert_to_lora, {"alpha": 0}, ValueError, "alpha must be above 0"),
    "scale a word": (stack, convert_to_curlora, {"scale": "1"}, TypeError, "scale must be a number"),
    "unknown init": (stack, convert_to_lora, {"init": "pissa"}, ValueError, "one of kaiming, cur, cur_residual"),
    "unknown basis": (stack, convert_to_curlora, {"basis": "svd"}, ValueError, "one of orthonormal, raw"),
    "unknown rule": (stack, convert_to_curlora, {"method": "best"}, ValueError, "inverse_norm"),
    "unknown rule of a start": (stack, convert_to_lora, {"method": "best"} | CUR, ValueError, "inverse_norm"),
    "unknown form": (stack, convert_to_tcurlora, {"form": "tucker"}, ValueError, "tubal"),
    "two ranks": (stack, convert_to_tcurlora, {"ranks": (4, 4)}, ValueError, "three ints, got (4, 4)"),
    "third rank too large": (stack, convert_to_tcurlora, {"ranks": (4, 4, 4)}, ValueError, "r_3 must be between 1 and"),
    "target rank above": (stack, convert_to_adalora, {"rank": 4, "target_rank": 5}, ValueError, "target_rank"),
    "no steps": (stack, convert_to_adalora, {"rank": 4, "total_steps": 0}, ValueError, "total_steps must be between 1"),
    "bad seed": (stack, convert_to_lora, {"rng": -1}, ValueError, "rng"),
    "meta": (lambda: changed(lambda b: b.to("meta")), convert_to_lora, CUR, ValueError, "2.query' must be"),
    "integers": (lambda: changed(integers), convert_to_lora, CUR, TypeError, "blocks.2.query'.*int8"),
    "NaN": (lambda: damaged((3, 4), np.nan), convert_to_lora, CUR, ValueError, "2.query' must be finite.*(3, 4)"),
    "infinity": (lambda: damaged((0, 1), np.inf), convert_to_adalora, {}, ValueError, "must be finite.*(0, 1)"),
    "rank too low": (lambda: changed(low_rank), convert_to_curlora, {"rank": 4}, ValueError, "least 4.*got 1"),
    "so for a start": (lambda: changed(low_rank), convert_to_lora, {"rank": 4} | CUR, ValueError, "least 4.*got 1"),
    "a second conversion": (
        lambda: adapted("lora", stack(), ["fc1"]).get_base_model(), convert_to_lora, {}, ValueError, "without adapters",
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong", BAD_INPUT)
def test_bad_input_is_refused_and_the_model_stays_as_it_was(wrong):
    make, conversion, arguments, error, message = BAD_INPUT[wrong]
    model = make()
    arguments = {"target_modules": ["query"], "progress": False, "rng": 0} | arguments
    message = re.sub(r"([()\[\]])", r"\\\1", message)
    if wrong == "meta":
        names = [name for name, _ in model.named_modules()]
        with pytest.raises(error, match=message):
            conversion(model, **arguments)
        assert names == [name for name, _ in model.named_modules()]
        assert all(p.requires_grad for p in model.parameters())
    else:
        with untouched(model), pytest.raises(error, match=message):
            conversion(model, **arguments)
        assert not hasattr(model, "peft_config") or wrong == "a second conversion"


def test_what_is_no_module_is_refused():
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module"):
        convert_to_lora({"fc1": 1}, ["fc1"])


def test_an_interrupt_leaves_the_model_as_it_was():
    model, calls = stack(), []

    def interrupt(basis, residual, k, rng):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return np.arange(k)

    with untouched(model), pytest.raises(KeyboardInterrupt):
        convert_to_lora(model, ["query"], rank=2, init="cur", method=interrupt, progress=False)


def test_merging_twice_is_refused():
    model = adapted("curlora", stack(), TARGETS)
    with untouched(model), pytest.raises(ValueError, match=r"'blocks.0.query' must be merged by merge to be unmerged"):
        unmerge(model)
    merge(model)
    with untouched(model), pytest.raises(ValueError, match=r"'blocks.0.query' must be unmerged to be merged"):
        merge(model)


@pytest.mark.parametrize("call", [merge, lambda model: unload(model, keep_update=True)], ids=["merge", "unload"])
@pytest.mark.parametrize("kind", KINDS)
def test_nan_is_never_merged(kind, call):
    model = adapted(kind, stack(), TARGETS)
    adapter_parameters(model)[-1].data.fill_(np.nan)
    with untouched(model), pytest.raises(ValueError, match=r"merged weight of 'blocks.\d.(query|fc1)' must be finite"):
        call(model)


@pytest.mark.parametrize("call", [merge, unmerge, unload, adapter_parameters])
def test_a_model_without_adapters_is_refused(call):
    with pytest.raises(TypeError, match=r"model must be a peft.PeftModel, .*got Stack"):
        call(stack())


def test_the_active_one_of_several_adapters_is_merged_on_its_layers_alone():
    model, x = convert_to_lora(stack(), ["query"], rank=2), normal((5, 24))
    model.add_adapter("other", peft.LoraConfig(r=3, target_modules=["fc1"]))
    model.set_adapter("other")
    disturb(model)
    y = model(x)
    merge(model)
    torch.testing.assert_close(model(x), y)
    assert not model.get_base_model().blocks[0].query.merged
    unmerge(model)
    assert torch.equal(model(x), y)
