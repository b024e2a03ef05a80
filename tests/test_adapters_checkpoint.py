import json
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch_models import KINDS, adapted, disturb, normal, stack, trained, untouched

from curtensor.adapters import convert_to_curlora, convert_to_lora, export_lora, load_adapter, merge, save_adapter

TARGETS = ["query", "fc1"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_a_fresh_base_with_the_checkpoint_gives_equal_outputs(kind, dtype, tmp_path):
    model = adapted(kind, stack(dtype), TARGETS, modules_to_save=["norm"])
    disturb(model)
    save_adapter(model, tmp_path / "new" / "folder")
    loaded = load_adapter(stack(dtype), tmp_path / "new" / "folder")
    x = normal((4, 24), dtype)
    assert torch.equal(loaded(x), model(x))
    for (name, a), b in zip(model.state_dict().items(), loaded.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert [n for n, p in loaded.named_parameters() if p.requires_grad] == [
        n for n, p in model.named_parameters() if p.requires_grad
    ]
    again = adapted(kind, stack(dtype), TARGETS)  # a loaded adapter trains, saves and merges like one made anew
    assert len(trained(loaded)) == len(trained(again)) + 2
    save_adapter(loaded, tmp_path / "again")
    for file in ("adapter.json", "adapter.safetensors"):
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "new" / "folder" / file).read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_a_merged_model_saves_what_it_had_before(kind, tmp_path):
    model = adapted(kind, stack(), TARGETS)
    disturb(model)
    y = model(normal((4, 24)))
    merge(model)
    save_adapter(model, tmp_path)
    assert torch.equal(load_adapter(stack(), tmp_path)(normal((4, 24))), y)


def test_twelve_layers_take_less_than_25_kB(tmp_path):
    base = {"width": 64, "hidden": 64, "depth": 4}
    model = convert_to_curlora(stack(**base), ["query", "fc1", "fc10"], rank=16, progress=False, rng=0)
    disturb(model)
    save_adapter(model, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    assert 12 * 16 * 16 * 4 < sum(file.stat().st_size for file in tmp_path.iterdir()) < 25_000


def test_nothing_but_trained_numbers_and_indices_is_written(tmp_path):
    model = adapted("tcurlora-ranks", stack(), ["query"])
    save_adapter(model, tmp_path)
    shapes = {name: tuple(tensor.shape) for name, tensor in load_file(tmp_path / "adapter.safetensors").items()}
    assert shapes == {
        "0.group.columns": (7, 2), "0.group.rows": (5, 2), "0.group.fibres": (2, 2), "0.group.core": (7, 5, 2),
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    model = adapted("curlora", stack(), TARGETS, modules_to_save=["head"])
    disturb(model)
    save_adapter(model, tmp_path)
    return tmp_path


def other_layer():
    model = stack()
    model.blocks[1].fc1.weight.data[3, 5] += 1e-6
    return model


def without_layer():
    model = stack()
    del model.blocks[1].fc1
    return model


def other_head():
    model = stack()
    model.head = nn.Linear(24, 9)
    return model


BASES = {
    "another weight": (other_layer, "the weight of 'blocks.1.fc1' must be the base with fingerprint"),
    "another shape": (lambda: stack(width=30), "the weight of 'blocks.0.query' must be the base"),
    "another dtype": (lambda: stack(torch.float64), "the weight of 'blocks.0.query' must be the base"),
    "fewer layers": (without_layer, "a module 'blocks.1.fc1'"),
    "another head": (other_head, "saved module 'head' must be of the model's shapes"),
    "adapters there": (lambda: adapted("lora", stack(), ["fc10"]), "model must be without adapters"),
}


@pytest.mark.parametrize("base", BASES)
def test_another_base_is_refused_by_the_first_thing_that_differs(base, folder):
    make, message = BASES[base]
    model = make()
    with untouched(model), pytest.raises(ValueError, match=message):
        load_adapter(model, folder)


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


def edit(path, change):
    description = json.loads(path.read_text())
    change(description)
    path.write_text(json.dumps(description))


def drop_tensor(folder):
    tensors = load_file(folder / "adapter.safetensors")
    del tensors["3.U"]
    save_file(tensors, folder / "adapter.safetensors")


def reshape_tensor(folder):
    tensors = load_file(folder / "adapter.safetensors")
    tensors["3.U"] = torch.zeros(7, 7)
    save_file(tensors, folder / "adapter.safetensors")


def index_beyond(folder):
    tensors = load_file(folder / "adapter.safetensors")
    tensors["3.columns"][0] = 1000
    save_file(tensors, folder / "adapter.safetensors")


DAMAGE = {
    "truncated tensors": lambda folder: cut(folder / "adapter.safetensors", 2000),
    "truncated header": lambda folder: cut(folder / "adapter.safetensors", 20),
    "empty tensors": lambda folder: cut(folder / "adapter.safetensors", 0),
    "truncated description": lambda folder: cut(folder / "adapter.json", 300),
    "a pickle as tensors": lambda folder: (folder / "adapter.safetensors").write_bytes(pickle.dumps({"U": [1.0]})),
    "a pickle as description": lambda folder: (folder / "adapter.json").write_bytes(pickle.dumps({"format": 1})),
    "a later format": lambda folder: edit(folder / "adapter.json", lambda d: d.update(format=2)),
    "an unknown kind": lambda folder: edit(folder / "adapter.json", lambda d: d["adapters"][0].update(kind="vera")),
    "an unknown option": lambda folder: edit(
        folder / "adapter.json", lambda d: d["adapters"][0]["options"].update(a=1)
    ),
    "a list": lambda folder: (folder / "adapter.json").write_text("[]"),
    "a missing tensor": drop_tensor,
    "a tensor of another shape": reshape_tensor,
    "an index beyond the weight": index_beyond,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_refused_and_the_model_stays_as_it_was(damage, folder):
    DAMAGE[damage](folder)
    model = stack()
    with untouched(model), pytest.raises(ValueError, match=r"must be .*, got"):
        load_adapter(model, folder)


@pytest.mark.parametrize("file", ["adapter.json", "adapter.safetensors"])
def test_a_missing_file_is_named(file, folder):
    (folder / file).unlink()
    model = stack()
    with untouched(model), pytest.raises(FileNotFoundError, match=file):
        load_adapter(model, folder)


def test_a_model_without_adapters_cannot_be_saved(tmp_path):
    for save in (save_adapter, export_lora):
        with pytest.raises(ValueError, match="model must be one with adapters"):
            save(stack(), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def exported(folder, model):
    """The update of each layer as the files give it."""
    tensors = load_file(folder / "adapter_model.safetensors")
    config = json.loads((folder / "adapter_config.json").read_text())
    updates = {}
    for name in config["target_modules"]:
        A, B = (tensors.pop(f"base_model.model.{name}.lora_{part}.weight") for part in "AB")
        assert len(A) == B.shape[1] == config["r"] == config["lora_alpha"]
        updates[name] = B @ A
    assert not tensors
    return updates


@pytest.mark.parametrize("kind", KINDS)
def test_export_is_exact_at_full_rank(kind, tmp_path):
    model = adapted(kind, stack(), TARGETS)
    disturb(model)
    errors = export_lora(model, tmp_path)
    updates = exported(tmp_path, model)
    assert list(errors) == [name for name, _ in model.named_modules() if name in updates]
    for name, update in updates.items():
        matrix = model.get_submodule(name).delta.matrix()
        assert errors[name] == 0
        assert torch.linalg.norm(update - matrix) < 1e-5 * torch.linalg.norm(matrix)


@pytest.mark.parametrize("kind", KINDS)
def test_export_of_a_lower_rank_is_the_best_and_its_error_told(kind, tmp_path):
    model = adapted(kind, stack(), TARGETS)
    disturb(model)
    errors = export_lora(model, tmp_path, rank=3)
    for name, update in exported(tmp_path, model).items():
        matrix = model.get_submodule(name).delta.matrix().detach()
        s = torch.linalg.svdvals(matrix)
        assert errors[name] > 0.01
        np.testing.assert_allclose(errors[name], torch.linalg.norm(s[3:]) / torch.linalg.norm(s), rtol=1e-4)
        np.testing.assert_allclose(torch.linalg.norm(update - matrix), torch.linalg.norm(s[3:]), rtol=1e-4)


def test_export_pads_to_one_rank_and_leaves_pruned_triplets_out(tmp_path):
    model = convert_to_lora(stack(), {"query": {"rank": 2}, "fc1": {"rank": 5}}, progress=False, rng=0)
    disturb(model)
    export_lora(model, tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["r"] == 5
    model = adapted("adalora", stack(), TARGETS)
    disturb(model)
    for layer in model.blocks:
        layer.query.delta.e.data[2:] = 0
        layer.fc1.delta.e.data[[0, 2]] = 0
    assert max(export_lora(model, tmp_path).values()) == 0
    assert json.loads((tmp_path / "adapter_config.json").read_text())["r"] == 3


def test_an_untrained_adapter_exports_as_zero(tmp_path):
    model = adapted("curlora", stack(), TARGETS)
    assert max(export_lora(model, tmp_path).values()) == 0
    assert all(not update.any() for update in exported(tmp_path, model).values())


def test_an_update_with_nan_is_not_exported(tmp_path):
    model = adapted("curlora", stack(), TARGETS)
    model.blocks[1].fc1.delta.U.data[0, 0] = np.nan
    with pytest.raises(ValueError, match=r"update of 'blocks.1.fc1' must be finite"):
        export_lora(model, tmp_path / "new")
    assert not (tmp_path / "new").exists()
