"""Fusion of modalities: chosen features, any batch shape, missing modalities, training and storage."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch.nn.functional import mse_loss

from curtensor.adapters import MultimodalTCURLoRA
from curtensor.adapters.choice import ADAPTER_RULES

WIDTHS = {"image": 40, "sound": 25, "text": 18}
GREEDY = ["osinsky", "lupp", "cpqr", "deim", "qdeim", "bsqr", "maxvol"]


def batch(*shape, dtype=torch.float64, seed=3):
    """Features of numerical rank above any asked for, in which few columns carry most."""
    rng = np.random.default_rng(seed)
    made = {}
    for name, width in WIDTHS.items():
        decay = np.exp(-np.arange(width) / 6)[rng.permutation(width)]
        made[name] = torch.from_numpy(rng.standard_normal((*shape, width)) * decay).to(dtype)
    return made


def fusion(dtype=torch.float64, **options):
    return MultimodalTCURLoRA(batch(60, dtype=dtype), 5, **{"n_features": 9, "rank": 6, "rng": 0} | options)


# oracle


def test_equals_the_formula_sample_by_sample():
    model, x = fusion(), batch(4, seed=8)
    y = model(x)
    assert model.modalities == sorted(WIDTHS)
    for s in range(4):
        tokens = []
        for i, name in enumerate(model.modalities):
            chosen = x[name][s][model.chosen_features(name)]
            tokens.append(chosen @ model.get_buffer(f"basis_{name}") @ model.core[:, :, i])
        scores = torch.stack([z @ model.key @ model.query / 6**0.5 for z in tokens])
        weights = scores.exp() / scores.exp().sum()
        fused = sum(w * (z @ model.value) for w, z in zip(weights, tokens, strict=True))
        torch.testing.assert_close(y[s], model.weight @ fused + model.bias, rtol=1e-12, atol=1e-12)


def test_calibration_features_come_out_uncorrelated_and_of_mean_square_1():
    X = batch(60)
    model = MultimodalTCURLoRA(X, 5, n_features=9, rank=6, rng=0)
    for name in model.modalities:
        Z = X[name][:, model.chosen_features(name)] @ model.get_buffer(f"basis_{name}")
        torch.testing.assert_close(Z.T @ Z / 60, torch.eye(6, dtype=Z.dtype), rtol=0, atol=1e-11)


@pytest.mark.parametrize("method", GREEDY)
def test_features_that_carry_the_data_are_chosen(method):
    rng = np.random.default_rng(1)
    carriers = [3, 11, 17]
    X = 1e-6 * rng.standard_normal((80, 25))
    X[:, carriers] += rng.standard_normal((80, 3))
    model = MultimodalTCURLoRA({"x": X}, 2, n_features=3, rank=3, method=method, rng=0)
    assert sorted(model.chosen_features("x")) == carriers


# invariants


@pytest.mark.parametrize("method", ADAPTER_RULES)
def test_chosen_features_are_distinct_and_as_many_as_asked(method):
    sizes = {"image": 12, "sound": 9, "text": 7}
    model = fusion(n_features=sizes, method=method)
    for name, k in sizes.items():
        assert len(set(model.chosen_features(name))) == k


def test_features_that_are_not_chosen_do_not_matter():
    model, x = fusion(), batch(4, seed=8)
    other = {name: torch.full_like(X, torch.nan) for name, X in x.items()}
    for name, X in x.items():
        other[name][:, model.chosen_features(name)] = X[:, model.chosen_features(name)]
    assert torch.equal(model(other), model(x))


@pytest.mark.parametrize("shape", [(), (1,), (4,), (2, 3), (2, 1, 3), (0,)])
def test_any_batch_shape(shape):
    model, x = fusion(), batch(*shape, seed=8)
    y = model(x)
    assert y.shape == (*shape, 5)
    flat = model({name: X.reshape(-1, X.shape[-1]) for name, X in x.items()})
    torch.testing.assert_close(y.reshape(-1, 5), flat, rtol=1e-12, atol=1e-12)


def test_missing_modalities_are_as_if_they_were_not_there():
    model, x = fusion(), batch(2, 3, seed=8)
    there = torch.tensor([[True, False, True], [False, False, True]])
    y = model(x, {"sound": there})
    with_it, without = model(x), model({"image": x["image"], "sound": None, "text": x["text"]})
    torch.testing.assert_close(y[there], with_it[there], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(y[~there], without[~there], rtol=1e-12, atol=1e-12)
    assert torch.linalg.norm(with_it - without) > 1e-3
    broken = x | {"sound": x["sound"].masked_fill(~there[..., None], torch.nan)}
    assert torch.equal(model(broken, {"sound": there}), y)


def test_where_nothing_is_there_the_bias_alone_is_left_and_gradients_are_finite():
    model, x = fusion(), batch(3, seed=8)
    with torch.no_grad():
        model.bias.copy_(torch.arange(5.0))
    nothing = dict.fromkeys(WIDTHS, torch.tensor([True, False, True]))
    x = {name: X.masked_fill(~nothing[name][:, None], torch.nan).requires_grad_() for name, X in x.items()}
    y = model(x, nothing)
    assert torch.equal(y[1], model.bias)
    y.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in (*model.parameters(), *x.values()))


def test_order_of_the_inputs_does_not_matter():
    model, x = fusion(), batch(4, seed=8)
    assert torch.equal(model(dict(reversed(x.items()))), model(x))


def test_order_of_the_calibration_batches_does_not_matter():
    model, x = fusion(), batch(4, seed=8)
    other = MultimodalTCURLoRA(dict(reversed(batch(60).items())), 5, n_features=9, rank=6, rng=0)
    assert torch.equal(other(x), model(x))
    with torch.no_grad():
        model.core.copy_(torch.from_numpy(np.random.default_rng(1).standard_normal((6, 6, 3))))
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(x), model(x))


def test_a_state_of_other_modalities_is_refused():
    renamed = {"smell" if name == "text" else name: X for name, X in batch(60).items()}
    other = MultimodalTCURLoRA(renamed, 5, n_features=9, rank=6, rng=0)
    with pytest.raises(RuntimeError, match="features_smell"):
        other.load_state_dict(fusion().state_dict())


def test_any_str_names_a_modality():
    names = ["left.eye", "left%2Eeye", "", "forward"]
    data = {name: batch(60, seed=i)["text"] for i, name in enumerate(names)}
    model = MultimodalTCURLoRA(data, 5, n_features=9, rank=6, rng=0)
    assert model(data).shape == (60, 5)
    assert sorted(model.chosen_features("left.eye")) != sorted(model.chosen_features("left%2Eeye"))
    assert sum(key.startswith("features_") for key in model.state_dict()) == 4


def test_every_parameter_gets_a_gradient_and_training_lowers_the_loss():
    model, x = fusion(torch.float32), batch(60, dtype=torch.float32)
    goal = torch.stack([x["text"][:, 0] * 3, *x["image"].T[:4]], dim=1)
    first = mse_loss(model(x), goal)
    first.backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())
    assert all(p.grad[..., i].any() for p in [model.core] for i in range(3))
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        mse_loss(model(x), goal).backward()
        optimizer.step()
    assert mse_loss(model(x), goal) < 0.5 * first
    names = dict(model.named_parameters())
    assert all(torch.equal(now, before[name]) != (name in names) for name, now in model.state_dict().items())


def test_number_of_trained_parameters():
    assert sum(p.numel() for p in fusion().parameters()) == 36 * (3 + 2) + 6 + 7 * 5


def test_state_dict_round_trip_copies_and_pickle():
    model, x = fusion(), batch(4, seed=8)
    other = MultimodalTCURLoRA(batch(60, seed=77), 5, n_features=9, rank=6, rng=5)
    assert not torch.equal(other(x), model(x))
    other.load_state_dict(model.state_dict())
    assert other.chosen_features("image") == model.chosen_features("image")
    for same in (other, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(same(x), model(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    model, x = fusion(), batch(4, seed=8)
    y = copy.deepcopy(model).to(dtype)({name: X.to(dtype) for name, X in x.items()})
    assert y.dtype == dtype
    exact = model(x)
    assert torch.linalg.norm(y.double() - exact) <= 64 * torch.finfo(dtype).eps * torch.linalg.norm(exact)
    own = fusion(dtype)
    assert {p.dtype for p in own.parameters()} == {dtype}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64, None])
def test_dtype_is_the_one_asked_for_whatever_the_batches_have(dtype):
    mixed = batch(60)
    mixed["sound"], mixed["text"] = mixed["sound"].half(), mixed["text"].numpy()
    model = MultimodalTCURLoRA(mixed, 5, n_features=9, rank=6, rng=0, dtype=dtype)
    dtype = torch.float64 if dtype is None else dtype
    held = [*model.parameters(), *(model.get_buffer(f"basis_{name}") for name in WIDTHS)]
    assert {tensor.dtype for tensor in held} == {dtype}
    for given in (torch.float16, torch.float32, torch.float64):
        y = model({name: X.to(given) for name, X in batch(4, seed=8).items()})
        assert y.dtype == dtype
        y.float().sum().backward()


def test_narrow_modalities_give_all_their_features_and_are_named():
    with pytest.warns(UserWarning, match="n_features is 20, and fewer where there are no more: 'text' 18"):
        model = fusion(n_features=20)
    assert [len(model.chosen_features(name)) for name in ("image", "sound", "text")] == [20, 20, 18]
    assert sorted(model.chosen_features("text")) == list(range(18))


def test_same_seed_same_module_and_global_random_state_left_alone():
    before = torch.random.get_rng_state()
    one, other, third = fusion(), fusion(), fusion(rng=1)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert not torch.equal(one.query, third.query)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_features_are_named_where_names_are_given():
    names = [f"pixel {j}" for j in range(40)]
    model = fusion(names={"image": names})
    assert model.chosen_features("image") == [names[j] for j in fusion().chosen_features("image")]
    assert all(isinstance(j, int) for j in model.chosen_features("text"))


def test_exported_modules_give_the_same_outputs():
    model, x = fusion(torch.float32).eval(), batch(4, dtype=torch.float32, seed=8)
    torch.testing.assert_close(torch.export.export(model, (x,)).module()(x), model(x))


# bad input

BAD = {
    "no mapping": ({"calibration": torch.ones(3, 4)}, TypeError, "calibration must be a mapping"),
    "no modality": ({"calibration": {}}, ValueError, "calibration must be of at least one modality"),
    "integers": ({"calibration": {"x": torch.ones(9, 9, dtype=int)}}, TypeError, "floating-point numbers"),
    "a vector": ({"calibration": {"x": torch.ones(9)}}, ValueError, "must be of shape"),
    "nan": ({"calibration": {"x": torch.full((9, 9), torch.nan)}}, ValueError, "must be finite"),
    "low rank": (
        {"calibration": {"x": torch.ones(20, 20)}},
        ValueError,
        r"calibration\['x'\] must be of numerical rank at least 9, got 1",
    ),
    "rank": ({"rank": 19}, ValueError, "rank must be between 1 and 18, got 19"),
    "rank above n_features": ({"rank": 10}, ValueError, "n_features of 'image' must be between 10 and 40, got 9"),
    "n_features": (
        {"n_features": {"text": 19, "image": 9, "sound": 9}},
        ValueError,
        "n_features of 'text' must be between 6 and 18, got 19",
    ),
    "name": ({"calibration": {1: torch.ones(9, 9)}}, TypeError, "each key of calibration must be a str, got"),
    "dtype": ({"dtype": torch.int32}, TypeError, "dtype must be a floating-point torch.dtype"),
    "n_features unknown": (
        {"n_features": {"smell": 9}},
        ValueError,
        r"n_features must be given for each of 'image', 'sound'",
    ),
    "n_features missing": ({"n_features": {"text": 9}}, ValueError, r"alone, got \['text'\]"),
    "names unknown": ({"names": {"smell": ["a"]}}, ValueError, "each key of names must be one of"),
    "names too few": ({"names": {"text": ["a"]}}, ValueError, "of length 18, got 1"),
    "method": ({"method": "best"}, ValueError, "method must be a function or one of"),
    "out_features": ({"out_features": 0}, ValueError, "out_features must be between 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments(case):
    options, error, message = BAD[case]
    options = {"calibration": batch(60), "out_features": 5, "n_features": 9, "rank": 6, "rng": 0} | options
    with pytest.raises(error, match=message):
        MultimodalTCURLoRA(**options)


def test_bad_inputs():
    model, x = fusion(), batch(4, seed=8)
    for inputs, present, message in (
        ({"smell": x["text"]}, None, "each modality must be one of"),
        ({}, None, "inputs must be of at least one modality, got none"),
        ({"text": None}, None, "inputs must be of at least one modality, got none"),
        (x | {"text": x["image"]}, None, r"the input 'text' must be of shape \(4, 18\)"),
        (x | {"text": x["text"][:2]}, None, r"the input 'text' must be of shape \(4, 18\)"),
        (x, {"text": torch.ones(4)}, r"present\['text'\] must be bool of shape \(4,\)"),
        (x, {"text": torch.ones(3, dtype=torch.bool)}, r"present\['text'\] must be bool of shape \(4,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            model(inputs, present)
    with pytest.raises(ValueError, match="modality must be one of"):
        model.chosen_features("smell")
