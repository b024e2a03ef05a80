"""Adapters on disk: what is saved comes back, what is damaged is refused with the model as it was, what is exported."""

import json
import os
import pickle
import re
import subprocess
import sys

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch_models import KINDS, adapted, disturb, normal, stack, untouched

from curtensor.adapters import convert_to_lora, export_lora, load_adapter, merge, save_adapter

TARGETS = ["query", "fc1"]
SAVED = [kind for kind in KINDS if kind != "lora-residual"]
pytestmark = pytest.mark.filterwarnings("ignore:.*fan_in_fan_out", "ignore::DeprecationWarning")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("kind", SAVED)
def test_a_fresh_base_with_the_file_gives_equal_outputs_and_trains_on(kind, dtype, tmp_path):
    model = adapted(kind, stack(dtype), TARGETS, modules_to_save=["head"])
    disturb(model)
    x = normal((5, 24), dtype)
    y = model(x)
    save_adapter(model, tmp_path)
    random = torch.get_rng_state()
    loaded = load_adapter(stack(dtype), tmp_path)
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.equal(loaded(x), y)
    assert [n for n, p in loaded.named_parameters() if p.requires_grad] == [
        n for n, p in model.named_parameters() if p.requires_grad
    ]
    still = load_adapter(stack(dtype), tmp_path, is_trainable=False)
    assert not any(p.requires_grad for p in still.parameters())
    assert torch.equal(still(x), y)


@pytest.mark.parametrize("kind", SAVED)
def test_a_merged_model_saves_what_it_had_before(kind, tmp_path):
    model = adapted(kind, stack(), TARGETS)
    disturb(model)
    y = model(normal((5, 24)))
    merge(model)
    save_adapter(model, tmp_path)
    assert torch.equal(load_adapter(stack(), tmp_path)(normal((5, 24))), y)


def test_what_torch_compile_wraps_is_saved_as_it_is_without(tmp_path):
    model = adapted("lora", stack(), TARGETS)
    disturb(model)
    save_adapter(torch.compile(model, backend="eager"), tmp_path)
    assert torch.equal(load_adapter(stack(), tmp_path)(normal((5, 24))), model(normal((5, 24))))


def test_two_processes_save_to_one_folder(tmp_path):
    text = """if True:
        import sys
        from torch import nn
        from curtensor.adapters import convert_to_lora, save_adapter
        model = convert_to_lora(nn.Sequential(nn.Linear(12, 10)), ["0"], rank=2, rng=0)
        for _ in range(20):
            save_adapter(model, sys.argv[1])
    """
    processes = [subprocess.Popen([sys.executable, "-W", "ignore", "-c", text, tmp_path]) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert sorted(os.listdir(tmp_path)) == ["README.md", "adapter_config.json", "adapter_model.safetensors"]


def test_a_sharded_model_saves_whole_tensors(tmp_path):
    text = """if True:
        import os, sys, torch
        import torch.distributed as dist
        from torch import nn
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard
        from curtensor.adapters import convert_to_lora, export_lora, load_adapter, save_adapter
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        base = nn.Sequential(nn.Linear(12, 10), nn.Linear(10, 6))
        state = {name: tensor.clone() for name, tensor in base.state_dict().items()}
        model = convert_to_lora(base, ["0", "1"], rank=2, rng=0)
        for p in model.parameters():
            p.data += 0.1
        x = torch.ones(3, 12)
        y = model(x)
        fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
        save_adapter(model, sys.argv[1])
        export_lora(model, sys.argv[1] + "/exported")
        for folder in (sys.argv[1], sys.argv[1] + "/exported"):
            fresh = nn.Sequential(nn.Linear(12, 10), nn.Linear(10, 6))
            fresh.load_state_dict({name: tensor + 0.1 for name, tensor in state.items()})
            torch.testing.assert_close(load_adapter(fresh, folder)(x), y)
        dist.destroy_process_group()
    """
    subprocess.run([sys.executable, "-W", "ignore", "-c", text, tmp_path], check=True)


def test_what_the_readme_says_is_kept(tmp_path):
    model = adapted("lora", stack(), TARGETS)
    save_adapter(model, tmp_path)
    text = (tmp_path / "README.md").read_text() + "\nTrained on letters.\n"
    (tmp_path / "README.md").write_text(text)
    save_adapter(model, tmp_path)
    assert "Trained on letters." in (tmp_path / "README.md").read_text()


def test_a_residual_start_is_saved_by_its_export_alone(tmp_path):
    model = adapted("lora-residual", stack(), TARGETS)
    disturb(model)
    for save in (
        model.save_pretrained,
        lambda folder: save_adapter(model, folder),
        pickle.loads(pickle.dumps(model)).save_pretrained,
    ):
        with pytest.raises(ValueError, match=r"must be exported by export_lora.*got save_pretrained"):
            save(tmp_path)
    assert not os.listdir(tmp_path)


@pytest.fixture
def folder(tmp_path):
    model = adapted("lora", stack(), TARGETS, modules_to_save=["head"])
    disturb(model)
    save_adapter(model, tmp_path)
    return tmp_path


def without_layer():
    model = stack()
    del model.blocks[1].fc1
    return model


def other_head():
    model = stack()
    model.head = nn.Linear(24, 9)
    return model


BASES = {
    "another shape": (lambda: stack(width=30), "size mismatch"),
    "fewer layers": (without_layer, "blocks.1.fc1.lora_A.*unknown to the model"),
    "another head": (other_head, "size mismatch"),
    "adapters there": (lambda: adapted("lora", stack(), ["fc10"]).get_base_model(), "model must be without adapters"),
}


@pytest.mark.parametrize("base", BASES)
def test_another_base_is_refused_by_what_differs(base, folder):
    make, message = BASES[base]
    model = make()
    with untouched(model), pytest.raises(ValueError, match=f"(?s){message}"):
        load_adapter(model, folder)


FIRST = "base_model.model.blocks.0.query.lora_A.weight"


def cut(name, size):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


def configured(**changes):
    def edit(folder):
        path = folder / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return edit


def with_tensors(change):
    def edit(folder):
        tensors = load_file(folder / "adapter_model.safetensors")
        change(tensors)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "adapter_model.safetensors")

    return edit


def without_rows(tensors):
    tensors[FIRST], B = tensors[FIRST][:0], FIRST.replace("lora_A", "lora_B")
    tensors[B] = tensors[B][:, :0]


DAMAGE = {
    "truncated tensors": cut("adapter_model.safetensors", 2000),
    "truncated header": cut("adapter_model.safetensors", 20),
    "empty tensors": cut("adapter_model.safetensors", 0),
    "truncated configuration": cut("adapter_config.json", 100),
    "a pickle as tensors": lambda folder: (folder / "adapter_model.safetensors").write_bytes(
        pickle.dumps({"U": [1.0]})
    ),
    "a list": lambda folder: (folder / "adapter_config.json").write_text("[]"),
    "an unknown method": configured(peft_type="VERY"),
    "a scale that is a word": configured(lora_alpha="much"),
    "a scale that is no number": configured(lora_alpha=float("nan")),
    "no rank": configured(r=0),
    "another rank": configured(r=3),
    "targets that are not there": configured(target_modules=["qeury"]),
    "a missing tensor": with_tensors(lambda t: t.pop(FIRST)),
    "a missing head": with_tensors(lambda t: t.pop("base_model.model.head.weight")),
    "one tensor too many": with_tensors(lambda t: t.update({FIRST.replace("query", "key"): t[FIRST].clone()})),
    "too few columns": with_tensors(lambda t: t.update({FIRST: t[FIRST][:, :5]})),
    "too few rows": with_tensors(lambda t: t.update({FIRST: t[FIRST][:2]})),
    "no rows": with_tensors(without_rows),
    "integers": with_tensors(lambda t: t.update({FIRST: t[FIRST].long()})),
    "NaN": with_tensors(lambda t: t[FIRST].fill_(float("nan"))),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_refused_and_the_model_stays_as_it_was(damage, folder):
    DAMAGE[damage](folder)
    model = stack()
    with (
        untouched(model),
        pytest.raises(ValueError, match=r"must be .*, got|arget.modules|should be a positive"),
    ):
        load_adapter(model, folder)
    assert type(model.head) is nn.Linear


@pytest.mark.parametrize("kind", ["curlora", "tcurlora"])
@pytest.mark.parametrize("damage", ["beyond", "twice", "shape", "base"])
def test_damaged_indices_and_another_base_are_refused_and_the_model_stays_as_it_was(kind, damage, tmp_path):
    save_adapter(adapted(kind, stack(), TARGETS), tmp_path)
    model = stack()

    def change(tensors):
        name = next(name for name in tensors if re.search("columns|indices", name))
        flat = tensors[name].view(-1) if kind == "curlora" else tensors[name][:, 1]
        if damage == "beyond":
            flat[0] = 1000
        elif damage == "twice":
            tensors[name][...] = 0
        elif damage == "shape":
            tensors[name] = tensors[name][:1]

    with_tensors(change)(tmp_path)
    if damage == "base":
        model.blocks[0].query.weight.data += 0.5 * torch.randn(24, 24)
    with untouched(model), pytest.raises(ValueError, match=r"must be .*, got"):
        load_adapter(model, tmp_path)


@pytest.mark.parametrize("file", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_missing_file_is_named(file, folder):
    os.remove(folder / file)
    model = stack()
    with untouched(model), pytest.raises(FileNotFoundError, match=file):
        load_adapter(model, folder)


@pytest.mark.parametrize("kind", KINDS)
def test_exports_are_exact_for_peft_alone_and_for_us(kind, tmp_path):
    model = adapted(kind, stack(), TARGETS, modules_to_save=["head"])
    disturb(model)
    y = model(normal((5, 24)))
    ranks = export_lora(model, tmp_path)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    assert ranks == {name: len(tensors[f"base_model.model.{name}.lora_A.weight"]) for name in ranks}
    assert len(ranks) == 6
    torch.testing.assert_close(
        peft.PeftModel.from_pretrained(stack(), tmp_path)(normal((5, 24))), y, rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(load_adapter(stack(), tmp_path)(normal((5, 24))), y, rtol=1e-5, atol=1e-5)
    saved = json.loads((tmp_path / "adapter_config.json").read_text())
    assert saved["lora_alpha"] == saved["r"] and saved["alpha_pattern"] == saved["rank_pattern"]


def test_ranks_that_differ_are_in_the_configuration(tmp_path):
    for kind in ("lora", "lora-residual", "curlora"):
        model = adapted(kind, stack(), TARGETS, rank_pattern={"blocks.1.query": 2})
        disturb(model)
        export_lora(model, tmp_path)
        y = model(normal((5, 24)))
        torch.testing.assert_close(
            peft.PeftModel.from_pretrained(stack(), tmp_path)(normal((5, 24))), y, rtol=1e-5, atol=1e-5
        )


def test_an_export_of_a_start_at_a_narrow_layer_is_exact(tmp_path):
    def base():
        torch.manual_seed(0)
        return nn.ModuleDict({"classifier": nn.Linear(32, 3)})

    with torch.random.fork_rng(devices=[]):
        model = convert_to_lora(base(), ["classifier"], rank=2, init="cur_residual", progress=False, rng=0)
        disturb(model)
        export_lora(model, tmp_path)
        read = peft.PeftModel.from_pretrained(base(), tmp_path)
    layers = [m.get_base_model()["classifier"] for m in (model, read)]
    torch.testing.assert_close(*(layer(normal((5, 32))) for layer in layers))


def test_biases_that_are_trained_are_exported(tmp_path):
    for kind, bias in (("lora", "all"), ("curlora", "curlora_only"), ("lora-cur", "lora_only")):
        model = adapted(kind, stack(), TARGETS, bias=bias)
        disturb(model)
        y = model(normal((5, 24)))
        export_lora(model, tmp_path / kind)
        read = peft.PeftModel.from_pretrained(stack(), tmp_path / kind)
        torch.testing.assert_close(read(normal((5, 24))), y, rtol=1e-5, atol=1e-5)


def test_an_update_with_nan_is_not_exported(tmp_path):
    model = adapted("lora", stack(), TARGETS)
    model.get_base_model().blocks[1].query.lora_A["default"].weight.data[0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"the update of .blocks.1.query. must be finite"):
        export_lora(model, tmp_path)
    assert not os.path.exists(tmp_path / "adapter_model.safetensors")


def test_what_cannot_be_exported_is_said(tmp_path):
    model = convert_to_lora(stack(), TARGETS, rank=2)
    with pytest.raises(ValueError, match="adapter_name must be one of default"):
        export_lora(model, tmp_path, adapter_name="other")
    with pytest.raises(TypeError, match=r"model must be a peft.PeftModel"):
        export_lora(stack(), tmp_path)
