"""What users of torch do with a model: compile, export, checkpoint gradients, distribute."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch_models import KINDS, adapted, disturb, normal, stack, trained

TARGETS = ["query", "fc1"]


def gradients(model, output):
    return torch.autograd.grad(output.square().sum(), trained(model))


def close(found, wanted):
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_gradient_checkpointing_gives_the_same_gradients(kind, reentrant):
    model = adapted(kind, stack(torch.float64), TARGETS)
    disturb(model)
    x = normal((4, 24), torch.float64).requires_grad_()
    wanted = gradients(model, model(x))
    y = x
    for block in model.blocks:
        y = checkpoint(block, y, use_reentrant=reentrant)
    y = model.head(model.norm(y))
    y.square().sum().backward()
    close([p.grad for p in trained(model)], wanted)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_compiled_model_gives_the_same_outputs_and_gradients(kind):
    model = adapted(kind, stack(torch.float64), TARGETS)
    disturb(model)
    x = normal((4, 24), torch.float64)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    y = compiled(x)
    close([y], [model(x)])
    close(gradients(model, y), gradients(model, model(x)))
    disturb(model, seed=8)  # the compiled code reads the parameters anew
    close([compiled(x)], [model(x)])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_exported_model_gives_the_same_outputs(kind, strict, tmp_path):
    model = adapted(kind, stack(torch.float64), TARGETS)
    disturb(model)
    x = normal((4, 24), torch.float64)
    torch._dynamo.reset()
    program = torch.export.export(model, (x,), strict=strict)
    torch.export.save(program, tmp_path / "model.pt2")
    close([torch.export.load(tmp_path / "model.pt2").module()(x)], [model(x)])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without torch.distributed")
def test_distributed_data_parallel_gives_the_same_gradients(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        for kind in KINDS:
            model = adapted(kind, stack(torch.float64), TARGETS)
            disturb(model)
            x = normal((4, 24), torch.float64)
            wanted = gradients(model, model(x))
            parallel = nn.parallel.DistributedDataParallel(model)
            for _ in range(2):
                model.zero_grad()
                parallel(x).square().sum().backward()
            close([p.grad for p in trained(model)], wanted)
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("kind", KINDS)
def test_autocast_trains(kind):
    model = adapted(kind, stack(), TARGETS)
    disturb(model)
    x = normal((4, 24))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = model(x)
    assert y.dtype == torch.bfloat16
    assert torch.linalg.norm(y - model(x)) < 0.1 * torch.linalg.norm(model(x))
    y.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained(model))
