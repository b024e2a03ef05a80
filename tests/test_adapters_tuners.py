"""The life of an adapter in PEFT: several by name, files, damage, other processes, training."""

import copy
import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
import torch.distributed as dist
from adapted_models import KINDS, adapted, config, ids, layers_of, llama, mlp, normal, output, seeded, shake, trained
from safetensors.torch import load_file, save_file
from torch import nn

from curtensor.adapters import CURLoRAConfig, TCURLoRAConfig
from curtensor.adapters.deltas import CoreDelta

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # which PEFT asks for
TARGETS = ["0", "2", "4"]
x = normal((5, 20))


def small(kind, **options):
    """An `mlp` with adapters, as if trained."""
    return shake(adapted(kind, mlp(), TARGETS, **options))


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_by_name_are_switched_weighted_and_deleted(kind):
    model = small(kind)
    first = model(x)
    model.add_adapter("other", config(kind, target_modules=TARGETS))
    assert torch.equal(model(x), first)
    model.set_adapter("other")
    assert torch.equal(model(x), mlp()(x))
    assert {name.split(".")[-1] in ("other", "U", "core") or "other" in name
            for name, p in model.named_parameters() if p.requires_grad} == {True}  # fmt: skip
    shake(model, seed=4)
    second = model(x)
    model.set_adapter("default")
    assert torch.equal(model(x), first)
    with model.disable_adapter():
        assert torch.equal(model(x), mlp()(x))
    assert torch.equal(model(x), first)
    if kind == "tcurlora-factors":  # no linear function of what it trains
        with pytest.raises(ValueError, match="linear in what is trained"):
            model.add_weighted_adapter(["default", "other"], [0.5, -2.0], "sum")
    else:
        model.add_weighted_adapter(["default", "other"], [0.5, -2.0], "sum")
        for layer in layers_of(model):
            ours, *parts = (layer.get_delta_weight(name) for name in ("sum", "default", "other"))
            torch.testing.assert_close(ours, 0.5 * parts[0] - 2.0 * parts[1], rtol=0, atol=1e-5)
        model.delete_adapter("sum")
    model.set_adapter("other")
    model.delete_adapter("default")
    assert torch.equal(model(x), second)
    assert not any("default" in name for name in model.state_dict())


def test_adapters_of_other_columns_are_not_added_up():
    model = small("curlora")
    model.add_adapter("other", config("curlora", target_modules=TARGETS, seed=1, method="uniform"))
    with pytest.raises(ValueError, match="adapters must be updates with the same columns and rows"):
        model.add_weighted_adapter(["default", "other"], [1.0, 1.0], "sum")
    assert list(model.peft_config) == ["default", "other"]
    for adapters, weights, name in ((["default", "none"], [1, 1], "sum"), (["default"], [1, 1], "sum"),
                                    (["default"], [1], "other")):  # fmt: skip
        with pytest.raises(ValueError, match="must be"):
            model.add_weighted_adapter(adapters, weights, name)


@pytest.mark.parametrize("kind", ["curlora", "tcurlora"])
def test_a_second_adapter_leaves_a_frozen_first_one_frozen(kind, tmp_path):
    small(kind).save_pretrained(tmp_path)
    model = peft.PeftModel.from_pretrained(mlp(), tmp_path)
    assert not trained(model)
    model.add_adapter("other", config(kind, target_modules=TARGETS))
    assert not [name for name, p in model.named_parameters() if p.requires_grad and "default" in name]
    model = peft.PeftModel.from_pretrained(mlp(), tmp_path, is_trainable=True)
    assert len(trained(model)) == len(trained(small(kind)))


def test_ranks_layers_biases_and_heads_are_as_the_configuration_says():
    model = adapted("curlora", mlp(), TARGETS, r=4, rank_pattern={"2": 7}, bias="curlora_only", modules_to_save=["6"])
    sizes = {layer.key: tuple(layer.deltas["default"].U.shape) for layer in layers_of(model)}
    assert sizes == {"0": (4, 4), "2": (7, 7), "4": (4, 4)}
    names = {name for name, p in model.named_parameters() if p.requires_grad}
    own = [f"{i}.{end}" for i in (0, 2, 4) for end in ("base_layer.bias", "curlora_delta.default.U")]
    head = [f"6.modules_to_save.default.{end}" for end in ("weight", "bias")]
    assert names == {f"base_model.model.{name}" for name in own + head}
    model = adapted("tcurlora", seeded(llama), ["q_proj", "v_proj"], r=4, layers_to_transform=[1])
    assert [layer.key for layer in layers_of(model)] == [f"model.layers.1.self_attn.{name}_proj" for name in "qv"]


def test_groups_are_layers_of_one_name_and_shape_unless_they_are_listed():
    def sizes(**options):
        model = adapted("tcurlora", mlp(), "all-linear", r=3, **options)
        return [
            [name for layer, _ in unit.places for name in [layer.key]] for unit in model.base_model.units("default")
        ]

    assert sizes() == [["0", "2", "4"], ["6"]]
    assert sizes(groups=[["0", "4"], ["2"], ["6"]]) == [["0", "4"], ["2"], ["6"]]
    assert sizes(rank_pattern={"2": 2}) == [["0", "4"], ["2"], ["6"]]
    with pytest.raises(ValueError, match="groups must be lists of all targets, '6' too"):
        sizes(groups=[["0", "2", "4"]])
    with pytest.raises(ValueError, match="the weight of '6' must be of shape"):
        sizes(groups=[["0", "2", "4", "6"]])


@pytest.mark.parametrize("kind", ["curlora", "tcurlora"])
def test_dropout_acts_in_training_alone(kind):
    model = small(kind, dropout=0.5)
    assert torch.equal(model.eval()(x), small(kind)(x))
    model.train()
    with torch.random.fork_rng():
        assert not torch.equal(model(x), model(x))


@pytest.mark.parametrize("kind", ["curlora", "tcurlora"])
def test_an_embedding_is_adapted(kind, tmp_path):
    base = seeded(lambda: nn.Sequential(nn.Embedding(50, 12, padding_idx=0), nn.Linear(12, 12)))
    tokens = torch.tensor([[3, 7, 0], [49, 3, 1]])
    model = adapted(kind, copy.deepcopy(base), ["0"])
    assert torch.equal(model(tokens), base(tokens))
    y = shake(model)(tokens)
    table = base[0].weight + layers_of(model)[0].get_delta_weight("default")
    torch.testing.assert_close(y, base[1](table[tokens]), rtol=0, atol=1e-5)
    model.save_pretrained(tmp_path, save_embedding_layers=False)
    assert torch.equal(peft.PeftModel.from_pretrained(copy.deepcopy(base), tmp_path)(tokens), y)
    model.merge_adapter()
    torch.testing.assert_close(model(tokens), y, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_copied_pickled_compiled_and_exported_is_the_same(kind):
    model = small(kind)
    y = model(x)
    again = copy.deepcopy(model)
    assert torch.equal(again(x), y)
    shake(again)
    assert torch.equal(model(x), y)
    assert torch.equal(pickle.loads(pickle.dumps(model))(x), y)
    assert torch.equal(torch.compile(model, backend="aot_eager", fullgraph=True)(x), y)
    assert torch.equal(torch.export.export(model, (x,)).module()(x), y)
    torch.testing.assert_close(copy.deepcopy(model).double()(x.double()).float(), y, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_no_random_state_but_its_own_is_used(kind):
    base, state, legacy = mlp(), torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
    model = adapted(kind, base, TARGETS, method="uniform")
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == legacy).all()  # noqa: NPY002
    again = adapted(kind, mlp(), TARGETS, method="uniform")
    other = adapted(kind, mlp(), TARGETS, method="uniform", seed=1)
    columns = [[unit.columns for unit in m.base_model.units("default")] for m in (model, again, other)]
    assert all(torch.equal(a, b) for a, b in zip(*columns[:2], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(columns[0], columns[2], strict=True))


def test_a_layers_choice_depends_on_no_other_layer():
    alone, among = adapted("curlora", mlp(), ["2"]), adapted("curlora", mlp(), TARGETS)
    assert torch.equal(layers_of(alone)[0].deltas["default"].indices, layers_of(among)[1].deltas["default"].indices)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_holds_what_is_trained_and_indices(kind, tmp_path):
    model = small(kind)
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    floats = sum(tensor.numel() for tensor in tensors.values() if tensor.is_floating_point())
    assert floats == model.get_nb_trainable_parameters()[0]
    assert {t.dtype for t in tensors.values() if not t.is_floating_point()} == {torch.int32, torch.uint8}


def test_twelve_layers_of_rank_16_fit_into_25_kB(tmp_path):
    model = seeded(lambda: llama(num_hidden_layers=6))
    shake(adapted("curlora", model, ["q_proj", "o_proj"], r=16)).save_pretrained(tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.iterdir() if path.name != "README.md") < 25_000


@pytest.mark.parametrize("kind", KINDS)
def test_another_base_is_refused_by_the_layer_that_differs(kind, tmp_path):
    small(kind).save_pretrained(tmp_path)
    for change in (lambda W: -W, lambda W: W.flip(0), lambda W: W + 0.2 * normal(W.shape), lambda W: 1.1 * W):
        base = mlp()
        base[2].weight.data = change(base[2].weight.data)
        before = copy.deepcopy(base.state_dict())
        with pytest.raises(ValueError, match=r"the weight of '2' must be that of the base model .*, got another"):
            peft.PeftModel.from_pretrained(base, tmp_path)
        state = {name.replace("base_layer.", ""): tensor for name, tensor in base.state_dict().items()}
        assert all(torch.equal(state[name], tensor) for name, tensor in before.items())


def damaged(folder, change, kind="curlora"):
    """Files of which one tensor or option was changed."""
    small(kind).save_pretrained(folder)
    tensors = load_file(folder / "adapter_model.safetensors")
    options = json.loads((folder / "adapter_config.json").read_text())
    change(tensors, options)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(options))


def replace(end, change):
    """Change the tensor whose name ends so."""

    def of(tensors, options):
        name = next(name for name in tensors if name.endswith(end))
        tensors[name] = change(tensors[name].clone())

    return of


def drop(end):
    """Leave a tensor out."""
    return lambda tensors, options: tensors.pop(next(name for name in tensors if name.endswith(end)))


def set_entry(index, value):
    """A tensor with another entry."""

    def of(tensor):
        tensor[index] = value
        return tensor

    return of


DAMAGE = {
    "a core of another shape": (replace(".U", lambda U: U[:, :4]), "of shape"),
    "a core of integers": (replace(".U", lambda U: U.long()), "of dtype"),
    "a core with NaN": (replace(".U", set_entry((0, 1), torch.nan)), "finite"),
    "no core": (drop(".U"), "the file must be one with"),
    "no indices": (drop(".indices"), "the file must be one with"),
    "no fingerprint": (drop(".fingerprint"), "the file must be one with"),
    "indices of another shape": (replace(".indices", lambda i: i[:, :4]), "of shape"),
    "an index that is too large": (replace(".indices", set_entry((0, 0), 20)), "distinct and below 20"),
    "an index below zero": (replace(".indices", set_entry((1, 0), -3)), "indices of at least 0, got -3"),
    "no index": (replace(".indices", set_entry((0, slice(None)), -1)), "indices of at least 0, got -1"),
    "an index twice": (replace(".indices", lambda i: set_entry((0, 0), i[0, 1])(i)), "distinct and below 20"),
    "another index": (replace(".indices", lambda i: i.flip(0)), "that of the base model"),
    "a scale of NaN": (lambda tensors, options: options.update(scale=float("nan")), "scale must be above 0"),
    "a scale that is no number": (lambda tensors, options: options.update(scale="much"), "scale must be a number"),
    "another basis": (lambda tensors, options: options.update(basis="none"), "basis must be one of"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_refused_and_the_base_weights_stay(damage, tmp_path):
    change, what = DAMAGE[damage]
    damaged(tmp_path, change)
    for low_cpu_mem_usage in (False, True):
        base = mlp()
        with pytest.raises((ValueError, TypeError), match=what):
            peft.PeftModel.from_pretrained(base, tmp_path, low_cpu_mem_usage=low_cpu_mem_usage)
        state = {name.replace("base_layer.", ""): tensor for name, tensor in base.state_dict().items()}
        assert all(torch.equal(state[name], tensor) for name, tensor in mlp().state_dict().items())


@pytest.mark.parametrize(("end", "size"), [(".columns", 3), (".rows", 3), (".fibres", 20)])
def test_damaged_indices_of_a_group_are_refused(end, size, tmp_path):
    damaged(tmp_path, replace(end, set_entry((0, 0), size)), "tcurlora-ranks")
    with pytest.raises(ValueError, match=f"the {end[1:]} of the adapter of '0' must be distinct and below {size}, "):
        peft.PeftModel.from_pretrained(mlp(), tmp_path)


def test_an_adapter_whose_file_is_not_loaded_says_so(tmp_path):
    small("curlora").save_pretrained(tmp_path)
    model = peft.get_peft_model(mlp(), peft.PeftConfig.from_pretrained(tmp_path))
    with pytest.raises(ValueError, match="an adapter must be loaded before it is used, got one whose file is not"):
        model(x)


@pytest.mark.parametrize("kind", ["curlora", "tcurlora"])
def test_loading_chooses_nothing(kind, tmp_path, monkeypatch):
    model = small(kind)
    model.save_pretrained(tmp_path)
    monkeypatch.setattr("curtensor.adapters.tuner.CURTuner.choose", lambda *arguments: pytest.fail("a choice"))
    for low_cpu_mem_usage in (False, True):
        loaded = peft.PeftModel.from_pretrained(mlp(), tmp_path, low_cpu_mem_usage=low_cpu_mem_usage)
        assert torch.equal(loaded(x), model(x))


@pytest.mark.parametrize(
    ("weight", "error", "what"),
    [
        (torch.full((20, 20), torch.nan), ValueError, "finite, got NaN or infinity, first at"),
        (torch.zeros(20, 20, device="meta"), ValueError, "a tensor with data, got one on the meta device"),
        (torch.zeros(20, 20, dtype=torch.int8), TypeError, "in half, single or double precision, got torch.int8"),
    ],
    ids=["NaN", "meta", "integers"],
)
@pytest.mark.parametrize("kind", ["curlora", "tcurlora"])
def test_a_weight_that_cannot_be_read_is_refused_and_the_model_is_as_it_was(kind, weight, error, what):
    base = mlp()
    base[4].weight = nn.Parameter(weight, requires_grad=False)
    with pytest.raises(error, match=re.escape(f"the weight of '4' must be {what}")):
        adapted(kind, base, ["0", "4"])
    assert not layers_of(base) and base[0].weight.requires_grad


def test_other_modules_are_refused():
    base = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    with pytest.raises(TypeError, match="the module '1' must be one of Linear, Conv1D, Embedding, got LayerNorm"):
        adapted("curlora", base, ["0", "1"], r=2)
    assert type(base[0]) is nn.Linear


def test_layers_that_are_dropped_leave_the_core_where_it_is(tmp_path):
    model = small("tcurlora")
    y = model.base_model.model[2:](x)
    model.base_model.model = model.base_model.model[2:]
    assert torch.equal(model(x), y)
    assert model.get_nb_trainable_parameters()[0] == 36 * 3
    model.save_pretrained(tmp_path)
    loaded = peft.PeftModel.from_pretrained(mlp(), tmp_path)
    assert torch.equal(loaded(x), small("tcurlora")(x))


@pytest.mark.parametrize("kind", ["curlora", "tcurlora"])
def test_t5_which_looks_at_a_weights_dtype_makes_no_update(kind, monkeypatch):
    from adapted_models import t5

    model = adapted(kind, seeded(t5), ["wo"], r=4)
    formed, update = [], CoreDelta.matrix
    monkeypatch.setattr(CoreDelta, "matrix", lambda delta: formed.append(1) or update(delta))
    model(input_ids=ids(), decoder_input_ids=ids(), labels=ids()).loss.backward()
    assert formed == []
    model.merge_adapter()
    assert formed


def run(code, *arguments, **environment):
    """A fresh process."""
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": paths, "HF_HUB_OFFLINE": "1"} | environment
    command = [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


LOAD = """
import sys, peft, torch
torch.set_num_threads(1)
base = torch.load(sys.argv[1] + "/base.pt", weights_only=False)
loaded = peft.PeftModel.from_pretrained(base, sys.argv[1])
torch.save(loaded(torch.load(sys.argv[1] + "/x.pt")), sys.argv[1] + "/y.pt")
"""


@pytest.mark.parametrize("kind", ["curlora", "tcurlora"])
def test_a_process_with_peft_alone_is_told_what_to_import(kind, tmp_path):
    model = small(kind)
    model.save_pretrained(tmp_path)
    torch.save(mlp(), tmp_path / "base.pt")
    torch.save(x, tmp_path / "x.pt")
    assert "import curtensor.adapters" in run(LOAD, tmp_path).stderr
    done = run("import curtensor.adapters\n" + LOAD, tmp_path)
    assert done.returncode == 0, done.stderr
    assert torch.equal(torch.load(tmp_path / "y.pt"), model(x))


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["Prescott", "Haswell"])
@pytest.mark.parametrize("method", ["osinsky", "inverse_norm", "uniform", "leverage"])
def test_outputs_are_the_same_on_another_processor(method, kernel, tmp_path):
    base = mlp()
    base[2].weight.data[:, 10:] = base[2].weight.data[:, :10]
    torch.save(base, tmp_path / "base.pt")
    torch.save(x, tmp_path / "x.pt")
    for make, options in ((CURLoRAConfig, {}), (TCURLoRAConfig, {}), (TCURLoRAConfig, {"form": "tubal"})):
        options = options | {"r": 8, "method": method}
        model = shake(peft.get_peft_model(copy.deepcopy(base), make(target_modules=TARGETS, **options)))
        model.save_pretrained(tmp_path)
        done = run("import curtensor.adapters\n" + LOAD, tmp_path, OPENBLAS_CORETYPE=kernel)
        assert done.returncode == 0, done.stderr
        torch.testing.assert_close(torch.load(tmp_path / "y.pt"), model(x), rtol=0, atol=1e-5)


DATA = [{"input_ids": row, "labels": row} for row in torch.randint(3, 97, (16, 8), generator=torch.manual_seed(1))]


def trainer(model, folder, **options):
    """transformers' Trainer of a small run."""
    import transformers

    arguments = transformers.TrainingArguments(
        folder, max_steps=6, per_device_train_batch_size=4, learning_rate=1e-2, save_steps=3, report_to=[], seed=1,
        disable_tqdm=True, use_cpu=True, logging_strategy="no", **options,
    )  # fmt: skip
    return transformers.Trainer(model, arguments, train_dataset=DATA, eval_dataset=DATA[:4])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_a_trainer_resumes_to_the_bit_and_finds_its_best_model(kind, tmp_path):
    options = {"target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}
    whole = peft.get_peft_model(seeded(llama), config(kind, r=4, **options)) if "ranks" not in kind else None
    if whole is None or kind == "tcurlora-factors":
        whole = peft.get_peft_model(seeded(llama), config(kind, **options))
    trainer(whole, tmp_path / "a").train()
    again = peft.get_peft_model(seeded(llama), copy.deepcopy(whole.peft_config["default"]))
    trainer(again, tmp_path / "b").train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-3"))
    assert torch.equal(output(whole, {"input_ids": ids()}), output(again, {"input_ids": ids()}))
    best = peft.get_peft_model(seeded(llama), copy.deepcopy(whole.peft_config["default"]))
    run_ = trainer(best, tmp_path / "c", eval_strategy="steps", eval_steps=3, load_best_model_at_end=True)
    run_.train()
    loaded = peft.PeftModel.from_pretrained(seeded(llama), run_.state.best_model_checkpoint)
    assert torch.equal(output(best, {"input_ids": ids()}), output(loaded, {"input_ids": ids()}))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_accelerate_saves_and_loads_its_state(kind, tmp_path):
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    model = small(kind)
    model, optimizer = accelerator.prepare(model, torch.optim.AdamW(trained(model), lr=0.1))
    accelerator.save_state(str(tmp_path))
    y = model(x)
    model(x).square().sum().backward()
    optimizer.step()
    assert not torch.equal(model(x), y)
    accelerator.load_state(str(tmp_path))
    assert torch.equal(model(x), y)


@pytest.mark.parametrize("use_reentrant", [True, False])
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["curlora", "tcurlora", "tcurlora-tubal"])
def test_gradient_checkpointing_changes_no_gradient(kind, use_reentrant):
    model = shake(adapted(kind, seeded(llama), ["q_proj", "v_proj"], r=4)).train()
    model(input_ids=ids(), labels=ids()).loss.backward()
    wanted = [p.grad.clone() for p in trained(model)]
    model.zero_grad()
    model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
    model.enable_input_require_grads()
    model(input_ids=ids(), labels=ids()).loss.backward()
    for p, gradient in zip(trained(model), wanted, strict=True):
        torch.testing.assert_close(p.grad, gradient, rtol=0, atol=1e-6)


PARALLEL = """
import sys, torch, torch.distributed as dist, warnings
from adapted_models import *
torch.set_num_threads(1)
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
for kind in KINDS:
    model = adapted(kind, mlp(), ["0", "2", "4"])
    model = torch.nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.SGD(trained(model), lr=0.1)
    for step in range(2):
        optimizer.zero_grad()
        model(normal((4, 20), seed=2 * step + rank)).square().mean().backward()
        optimizer.step()
    flat = torch.cat([p.detach().flatten() for p in trained(model)])
    both = [torch.empty_like(flat) for _ in range(2)]
    dist.all_gather(both, flat)
    assert torch.equal(*both)
    alone = adapted(kind, mlp(), ["0", "2", "4"])
    optimizer = torch.optim.SGD(trained(alone), lr=0.1)
    for step in range(2):
        optimizer.zero_grad()
        sum(alone(normal((4, 20), seed=2 * step + part)).square().mean() / 2 for part in (0, 1)).backward()
        optimizer.step()
    torch.testing.assert_close(flat, torch.cat([p.detach().flatten() for p in trained(alone)]), rtol=0, atol=1e-5)
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    commands = [[sys.executable, "-W", "ignore", "-c", PARALLEL, str(rank), str(tmp_path / "meet")] for rank in (0, 1)]
    processes = [subprocess.Popen(command, env=os.environ | {"PYTHONPATH": paths}, stderr=subprocess.PIPE, text=True)
                 for command in commands]  # fmt: skip
    for process in processes:
        _, error = process.communicate(timeout=300)
        assert process.returncode == 0, error


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["curlora", "tcurlora"])
def test_a_sharded_model_trains_and_saves(kind, tmp_path):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    from curtensor.adapters import save_adapter

    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        model = shake(adapted(kind, seeded(llama), ["q_proj", "v_proj"], r=4))
        y = output(model, {"input_ids": ids()})
        mesh = init_device_mesh("cpu", (1,))
        for layer in model.base_model.model.model.layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
        model(input_ids=ids(), labels=ids()).loss.backward()
        assert all(p.grad is not None for p in trained(model))
        save_adapter(model, tmp_path / "saved")
    finally:
        dist.destroy_process_group()
    loaded = peft.PeftModel.from_pretrained(seeded(llama), tmp_path / "saved")
    assert torch.equal(output(loaded, {"input_ids": ids()}), y)


def test_a_layer_alone_takes_curlora_and_what_is_shared_is_refused():
    base = mlp()
    peft.inject_adapter_in_model(config("curlora", target_modules=TARGETS), base)
    assert torch.equal(base(x), mlp()(x))
    state = peft.get_peft_model_state_dict(shake(base))
    again = peft.inject_adapter_in_model(config("curlora", target_modules=TARGETS, seed=5, method="uniform"), mlp())
    peft.set_peft_model_state_dict(again, state)
    assert torch.equal(again(x), base(x))
    with pytest.raises(ValueError, match="shared state"):
        peft.inject_adapter_in_model(config("tcurlora", target_modules=TARGETS), mlp())
