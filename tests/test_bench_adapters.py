"""The benchmarks of the adapters run, on small layers, and what they measure is what they say."""

import re

import pytest

torch = pytest.importorskip("torch")

from benchmarks import bench_adapters  # noqa: E402
from evidence import adapters  # noqa: E402


@pytest.mark.parametrize("method", bench_adapters.STARTS)
def test_start_runs(method):
    suite = bench_adapters.Initialisation()
    suite.setup(method, (80, 60))
    before = suite.weight.clone()
    suite.time_start(method, (80, 60))
    assert torch.equal(suite.weight, before)


@pytest.mark.parametrize("name", bench_adapters.LAYERS)
def test_step_runs_and_each_layer_begins_as_the_plain_one(name, monkeypatch):
    if name == "LoRA by PEFT":
        pytest.importorskip("peft")
    monkeypatch.setattr(bench_adapters.Step, "rank", 6)
    monkeypatch.setattr(bench_adapters.Step, "n_rows", 7)
    suite = bench_adapters.Step()
    for shape in ((60, 50), (30, 50)):
        suite.setup(name, shape)
        for measure in ("time_forward", "time_forward_and_backward", "peakmem_step"):
            assert getattr(suite, measure)(name, shape) is None
        assert torch.equal(suite.layer(suite.x), bench_adapters.linear(*shape)(suite.x))
        kept = suite.track_numbers_kept_for_backward(name, shape)
        assert (kept >= 6 * shape[0]) == (name == "CURLoRA as published")  # C U, among others


@pytest.mark.parametrize("shape", [(4096, 4096), (1024, 4096), (4096, 11008)])
@pytest.mark.parametrize("conversion", ["convert_to_lora", "convert_to_adalora"])
def test_ranks_are_of_equal_flops(conversion, shape):
    layer = torch.nn.Linear(*shape[::-1], device="meta")
    flops = bench_adapters.equal_rank(conversion, layer, 64) * sum(shape)
    assert abs(flops - (64 * sum(shape) + 64**2)) <= sum(shape) / 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("method", ["LoRA", "tCURLoRA", "PiSSA by PEFT, 4 iterations"])
def test_whole_model_is_converted_and_left_without_adapters(method):
    suite = bench_adapters.WholeModel()
    suite.setup(method)
    names = list(suite.model.state_dict())
    suite.time_convert(method)
    assert list(suite.model.state_dict()) == names == list(bench_adapters.minilm().state_dict())


def test_a_missing_module_is_said_in_the_words_of_asv():
    with pytest.raises(NotImplementedError, match="nonsense is not installed"):
        bench_adapters.needs("torch", "nonsense")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("claim", ["identity", "counts", "merging", "checkpoints", "exports"])
def test_claim_that_is_no_time_is_held(claim):
    lines = list(adapters.CLAIMS[claim]())
    assert {
        name for name in bench_adapters.CONVERSIONS for line in lines if re.search(rf", {name}(,|:|$)", line.what)
    } == set(bench_adapters.CONVERSIONS) - ({"LoRA from CUR, residual"} if claim == "checkpoints" else set())
    assert [line for line in lines if not line.held] == []
