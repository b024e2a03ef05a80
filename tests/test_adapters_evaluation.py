"""Loss and metrics of a model: the loss that the model computes, on what its labels are of its logits."""

import copy
import math

import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss

from curtensor.adapters import evaluate_model

IGNORED = -100


def normal(*shape, seed=2):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def drawn(high, *shape, low=0, seed=5):
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(seed))


def seeded(make):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make()


def transformers():
    return pytest.importorskip("transformers")


def llama():
    hf = transformers()
    sizes = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    config = hf.LlamaConfig(**sizes, num_attention_heads=2, max_position_embeddings=32)
    return seeded(lambda: hf.LlamaForCausalLM(config))


def t5():
    hf = transformers()
    config = hf.T5Config(
        vocab_size=50, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, decoder_start_token_id=0
    )
    return seeded(lambda: hf.T5ForConditionalGeneration(config))


def bert(kind="BertForSequenceClassification", **options):
    hf = transformers()
    sizes = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    config = hf.BertConfig(**sizes, num_attention_heads=2, max_position_embeddings=32, **options)
    return seeded(lambda: getattr(hf, kind)(config))


def token_labels(*shape):
    """Token numbers, some of which do not count, unevenly over the rows."""
    labels = drawn(50, *shape, low=1, seed=7)
    for row in range(len(labels)):
        labels[row, : row % (shape[1] - 2)] = IGNORED
    return labels


def parts(batch, sizes):
    """A dict of tensors cut into smaller ones along the first axis."""
    pieces = {name: value.split(sizes) for name, value in batch.items()}
    return [{name: value[i] for name, value in pieces.items()} for i in range(len(sizes))]


# oracle: the model's own loss of everything at once, however it is cut into batches

SEQUENCES = {"input_ids": drawn(50, 10, 6, low=1), "labels": token_labels(10, 6)}
OWN_LOSS = {
    "causal": (llama, SEQUENCES),
    "sequence to sequence": (t5, SEQUENCES | {"labels": token_labels(10, 4)}),
    "tokens": (lambda: bert("BertForTokenClassification", num_labels=50), SEQUENCES),
    "classes": (lambda: bert(num_labels=5), SEQUENCES | {"labels": drawn(5, 10)}),
    "several labels": (
        lambda: bert(num_labels=5, problem_type="multi_label_classification"),
        SEQUENCES | {"labels": drawn(2, 10, 5).float()},
    ),
    "regression": (lambda: bert(num_labels=1), SEQUENCES | {"labels": normal(10).float()}),
}


@pytest.mark.parametrize("case", OWN_LOSS)
@pytest.mark.parametrize("sizes", [[10], [1, 4, 2, 3]])
def test_loss_is_the_models_own_however_the_set_is_cut(case, sizes):
    make, whole = OWN_LOSS[case]
    model = make()
    results = evaluate_model(model, parts(whole, sizes))
    own = model.eval()(**whole).loss.item()
    assert_allclose(results["loss"], own, rtol=1e-5)
    assert ("accuracy" in results) == (whole["labels"].dtype == torch.int64)


@pytest.mark.parametrize("case", ["causal", "sequence to sequence", "tokens"])
def test_accuracy_is_of_the_labels_that_the_model_learns_to_give(case):
    make, whole = OWN_LOSS[case]
    model = make().eval()
    logits, labels = model(**whole).logits, whole["labels"]
    if case == "causal":
        logits, labels = logits[:, :-1], labels[:, 1:]
    wanted = (logits.argmax(-1) == labels)[labels != IGNORED].double().mean()
    labels = whole["labels"].clone()  # so that a share of them is right
    right = model(**whole).logits.argmax(-1)
    if case == "causal":
        labels[::2, 1:] = right[::2, :-1]
    else:
        labels[::2] = right[::2]
    if case != "sequence to sequence":  # where labels are inputs as well
        results = evaluate_model(model, parts(whole | {"labels": labels}, [3, 7]))
        assert results["accuracy"] > 0.4
    assert_allclose(evaluate_model(model, parts(whole, [3, 7]))["accuracy"], wanted.item(), rtol=1e-12)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_adapters_and_wrappers_do_not_change_what_is_read():
    peft = pytest.importorskip("peft")
    model = llama()
    wanted = evaluate_model(model, parts(SEQUENCES, [4, 6]))
    pairs = [(part["input_ids"], part["labels"]) for part in parts(SEQUENCES, [4, 6])]
    assert evaluate_model(model, pairs) == wanted
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    adapted = peft.get_peft_model(copy.deepcopy(model), config)
    assert evaluate_model(adapted, pairs) == wanted
    compiled = torch.compile(model, backend="eager")
    assert_allclose(evaluate_model(compiled, pairs)["loss"], wanted["loss"], rtol=1e-6)


def test_a_loss_without_labels_is_taken_from_the_model():
    model = bert("BertForQuestionAnswering").eval()
    whole = {
        "input_ids": SEQUENCES["input_ids"],
        "start_positions": drawn(6, 10),
        "end_positions": drawn(6, 10, seed=6),
    }
    results = evaluate_model(model, parts(whole, [1, 9]))
    assert_allclose(results["loss"], model(**whole).loss.item(), rtol=1e-5)
    assert list(results) == ["loss"]


class Own(nn.Module):
    """A model whose loss is what it is told."""

    def __init__(self, loss):
        super().__init__()
        self.loss = loss

    def forward(self, logits, labels):
        return {"logits": logits, "loss": self.loss(logits, labels)}


def test_a_loss_that_is_none_of_the_known_is_kept_and_gives_no_metrics():
    smoothed = Own(nn.CrossEntropyLoss(label_smoothing=0.3))
    logits, labels = normal(8, 4), drawn(4, 8)
    batches = [{"logits": logits[:3], "labels": labels[:3]}, {"logits": logits[3:], "labels": labels[3:]}]
    assert_allclose(evaluate_model(smoothed, batches)["loss"], smoothed(logits, labels)["loss"].item())
    with pytest.raises(ValueError, match="metrics must be None where the model's loss is none that"):
        evaluate_model(smoothed, batches, metrics={"accuracy": lambda p, y: 0.0})


@pytest.mark.parametrize("axis", [1, 3])
def test_class_axis_is_the_one_of_the_shapes_or_of_the_loss(axis):
    logits, labels = normal(2, 3, 5, 4), drawn(4, 2, 3, 5)
    wanted = cross_entropy(logits.flatten(0, 2), labels.flatten()).item()
    assert_allclose(evaluate_model(nn.Identity(), [(logits.movedim(-1, axis), labels)])["loss"], wanted, rtol=1e-6)
    logits, labels = normal(2, 4, 4, 4), drawn(4, 2, 4, 4)
    with pytest.raises(ValueError, match="labels must be such as can be read in one way alone without `loss`, got"):
        evaluate_model(nn.Identity(), [(logits, labels)])
    for way in (1, 3):
        results = evaluate_model(
            nn.Identity(), [(logits, labels)], loss=lambda x, y, way=way: cross_entropy(x.movedim(way, 1), y)
        )
        hits = logits.argmax(way) == labels
        assert_allclose(results["accuracy"], hits.double().mean().item())


def test_several_labels_are_told_from_a_regression_by_the_loss():
    logits, labels = normal(9, 3), drawn(2, 9, 3).double()
    with pytest.raises(ValueError, match="read in one way alone"):
        evaluate_model(nn.Identity(), [(logits, labels)])
    metrics = {"positive": lambda predictions, labels: predictions.double().mean()}
    results = evaluate_model(nn.Identity(), [(logits, labels)], loss=nn.BCEWithLogitsLoss(), metrics=metrics)
    assert_allclose(results["loss"], binary_cross_entropy_with_logits(logits, labels).item())
    assert_allclose(results["positive"], (logits > 0).double().mean().item())
    results = evaluate_model(nn.Identity(), [(logits, labels)], loss=nn.MSELoss(), metrics=metrics)
    assert_allclose(results["loss"], mse_loss(logits, labels).item())
    assert_allclose(results["positive"], logits.mean().item(), rtol=1e-6)


# metrics of torchmetrics


def test_metrics_of_torchmetrics_see_the_whole_set_and_are_left_as_they_were():
    classification = pytest.importorskip("torchmetrics.classification")
    collections = pytest.importorskip("torchmetrics")
    logits, labels = normal(40, 3), drawn(3, 40)
    labels[::7] = IGNORED
    kept = labels != IGNORED
    batches = list(zip(logits.split([25, 10, 5]), labels.split([25, 10, 5]), strict=True))
    f1 = classification.MulticlassF1Score(num_classes=3)
    f1.update(torch.tensor([0, 1]), torch.tensor([0, 0]))
    before = f1.compute()
    metrics = {"f1": f1, "each": classification.MulticlassRecall(num_classes=3, average=None)}
    results = evaluate_model(nn.Identity(), batches, metrics=metrics)
    again = evaluate_model(nn.Identity(), batches, metrics=collections.MetricCollection(metrics))
    wanted = collections.functional.f1_score(logits[kept], labels[kept], "multiclass", num_classes=3, average="macro")
    assert_allclose(results["f1"], wanted.item(), rtol=1e-6)
    assert len(results["each"]) == 3
    assert again == results
    assert f1.compute() == before


def test_metrics_of_scores_get_what_predict_makes_of_the_logits():
    classification = pytest.importorskip("torchmetrics.classification")
    logits, labels = normal(40, 2), drawn(2, 40)
    area = {"area": classification.BinaryAUROC()}
    results = evaluate_model(nn.Identity(), [(logits, labels)], metrics=area, predict=lambda x: x.softmax(-1)[:, 1])
    low, high = (logits[labels == k].softmax(-1)[:, 1] for k in (0, 1))
    assert_allclose(results["area"], (high[:, None] > low).double().mean().item(), rtol=1e-6)


def test_functions_see_the_whole_set():
    seen = []

    def spread(predictions, labels):
        seen.append((predictions.shape, labels.shape))
        return predictions.unique().numel()

    batches = [(torch.eye(3), torch.tensor([0, 1, 1])), (torch.eye(3)[:1], torch.tensor([2]))]
    assert evaluate_model(nn.Identity(), batches, metrics={"spread": spread})["spread"] == 3.0
    assert seen == [((4,), (4,))]


def test_sequences_and_regressions_are_scored():
    logits, labels = normal(2, 5, 4), torch.tensor([[0, 1, 2, 3, -100], [3, 3, -100, 0, 1]])
    results = evaluate_model(nn.Identity(), [(logits, labels)])
    assert_allclose(results["loss"], cross_entropy(logits.flatten(0, 1), labels.flatten()).item(), rtol=1e-6)
    results = evaluate_model(nn.Identity(), [(torch.ones(4, 1), torch.zeros(4)), (torch.zeros(4, 1), torch.zeros(4))])
    assert results == {"loss": 0.5}


# invariants


class Classifier(nn.Module):
    """A net with dropout whose logits come in one of several forms."""

    def __init__(self, form="tensor"):
        super().__init__()
        self.net = seeded(lambda: nn.Sequential(nn.Linear(24, 16), nn.Sequential(nn.ReLU(), nn.Linear(16, 8))).double())
        self.form, self.dropout = form, nn.Dropout(0.5)

    def forward(self, x):
        assert torch.is_inference_mode_enabled()
        logits = self.net(self.dropout(x))
        if self.form == "dict":
            return {"logits": logits}
        return type("Output", (), {"logits": logits}) if self.form == "object" else logits


@pytest.mark.parametrize("form", ["tensor", "dict", "object"])
@pytest.mark.parametrize("batch", ["pairs", "dicts", "pairs of a dict"])
def test_evaluation_weighs_by_label_and_leaves_no_trace(form, batch):
    model = Classifier(form)
    model.net[1].eval()
    x, labels = normal(50, 24), torch.arange(50) % 8
    labels[::5] = IGNORED
    sizes = [20, 20, 7, 3]
    pieces = list(zip(x.split(sizes), labels.split(sizes), strict=True))
    if batch == "dicts":
        pieces = [{"x": a, "labels": b} for a, b in pieces]
    elif batch == "pairs of a dict":
        pieces = [({"x": a}, b) for a, b in pieces]
    state, flags = copy.deepcopy(model.state_dict()), [module.training for module in model.modules()]
    results = evaluate_model(model, pieces)
    assert [module.training for module in model.modules()] == flags
    assert all(torch.equal(now, state[name]) for name, now in model.state_dict().items())
    kept = labels != IGNORED
    logits = model.net.eval()(x)[kept]
    assert_allclose(results["loss"], cross_entropy(logits, labels[kept]).item(), rtol=1e-6)
    assert_allclose(results["accuracy"], (logits.argmax(1) == labels[kept]).double().mean())
    assert list(results) == ["loss", "accuracy"]


def test_training_flags_come_back_after_an_error():
    model = Classifier()
    model.net[1].eval()
    flags = [module.training for module in model.modules()]
    with pytest.raises(RuntimeError):
        evaluate_model(model, [(torch.ones(3, 7).double(), torch.zeros(3, dtype=torch.long))])
    assert [module.training for module in model.modules()] == flags


def test_batches_in_which_no_label_counts_are_left_out():
    model, whole = llama(), SEQUENCES
    nothing = {"input_ids": whole["input_ids"][:2], "labels": torch.full((2, 6), IGNORED)}
    first_alone = {name: value.clone() for name, value in nothing.items()}
    first_alone["labels"][:, 0] = 3  # which no token comes before
    assert evaluate_model(model, [nothing, first_alone, whole, nothing]) == evaluate_model(model, [whole])


# bad input


class Silent(nn.Module):
    def forward(self, x):
        return [x]


class Whatever(nn.Module):
    def forward(self, **inputs):
        return inputs["x"]


NAN = torch.tensor([[math.nan, 1.0], [0.0, 1.0]])
BAD = {
    "no labels": (Whatever(), [{"x": torch.ones(2, 2)}], TypeError, "a pair or a dict with 'labels', got neither"),
    "a triple": (nn.Identity(), [(torch.ones(2, 2),) * 3], TypeError, "a pair or a dict"),
    "unknown output": (Silent(), [(torch.ones(2, 2), torch.zeros(2).long())], TypeError, "a tensor or one with logits"),
    "empty": (nn.Identity(), [], ValueError, "labels that count, got none"),
    "all ignored": (nn.Identity(), [(torch.ones(1, 2), torch.tensor([-100]))], ValueError, "labels that count"),
    "NaN logits": (nn.Identity(), [(NAN, torch.tensor([1, 1]))], ValueError, "the loss must be free of NaN"),
    "NaN labels": (nn.Identity(), [(torch.ones(2, 2), NAN)], ValueError, "labels must be free of NaN"),
    "one class": (nn.Identity(), [(torch.ones(2, 1), torch.tensor([0, 0]))], ValueError, "labels must be numbers"),
    "a class too many": (
        nn.Identity(),
        [(torch.ones(2, 3), torch.tensor([0, 3]))],
        ValueError,
        "labels must be numbers",
    ),
    "later a class too high": (
        nn.Identity(),
        [(torch.ones(2, 3), torch.tensor([0, 2])), (torch.ones(2, 3), torch.tensor([0, 3]))],
        ValueError,
        "labels must be numbers",
    ),
    "integers for several": (nn.Identity(), [(torch.ones(4, 3), drawn(2, 4, 3))], ValueError, "labels must be numbers"),
    "shapes that broadcast": (nn.Identity(), [(torch.ones(4, 3), torch.ones(4))], ValueError, "labels must be numbers"),
    "NaN loss": (
        Own(lambda logits, labels: torch.tensor(math.nan)),
        [{"logits": torch.ones(2, 3), "labels": torch.tensor([0, 1])}],
        ValueError,
        "the loss must be free of NaN",
    ),
    "a loss of each": (
        Own(nn.CrossEntropyLoss(reduction="none")),
        [{"logits": torch.ones(2, 3), "labels": torch.tensor([0, 1])}],
        ValueError,
        "the loss must be a single number, got shape",
    ),
}


@pytest.mark.parametrize("wrong", BAD)
def test_bad_evaluation_is_refused(wrong):
    model, batches, error, message = BAD[wrong]
    with pytest.raises(error, match=message):
        evaluate_model(model, batches)


def test_a_metric_of_the_name_loss_is_refused():
    with pytest.raises(ValueError, match="metrics must be of other names than 'loss'"):
        evaluate_model(nn.Identity(), [], metrics={"loss": lambda p, y: 0.0})
