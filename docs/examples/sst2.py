"""Sentiment of sentences: LoRA, CURLoRA, tCURLoRA, AdaLoRA, full training and a head alone, with seeds.

MiniLM (six layers, width 384), query and value projections adapted, mean pooling and a linear head, 2,000 sentences,
three epochs; accuracy on the 872 sentences of the development set. A seed chooses the sentences, their order, the
head and the adapter::

    python docs/examples/sst2.py --methods lora curlora tcurlora --seeds 0 1 2 --csv sst2.csv --plot sst2.png

Each run is a line of the table; runs that are in it already are not made again. With ``--tune``, accuracy is on
training sentences that were left out, to choose learning rates by.
"""

import argparse
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from runs import add_row, report, rows_of
from shared import Classifier, add_training_options, batches, data_folder, minilm, sentences
from torchmetrics.functional.classification import binary_accuracy

from curtensor.adapters import (
    RankAllocator,
    adapter_parameters,
    convert_to_adalora,
    convert_to_curlora,
    convert_to_lora,
    convert_to_tcurlora,
    count_parameters,
    evaluate_model,
    orthogonality_penalty,
)

TARGETS = ["query", "value"]


def lora(encoder, rng, *, target_modules=TARGETS, rank=8, alpha=None, init="kaiming"):
    """LoRA: 8 (384 + 384) numbers a layer."""
    convert_to_lora(encoder, target_modules, rank=rank, alpha=alpha, init=init, progress=False, rng=rng)


def lora_cur(encoder, rng, *, rank=8):
    """LoRA whose A starts as chosen rows of the weight."""
    lora(encoder, rng, rank=rank, init="cur")


def lora_peft(encoder, rng, *, rank=8):
    """LoRA as PEFT has it."""
    from peft import LoraConfig, inject_adapter_in_model

    with torch.random.fork_rng():
        torch.manual_seed(rng)
        inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=TARGETS), encoder)
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_("lora_" in name)


def curlora(encoder, rng, *, rank=78, target_modules=TARGETS, basis="orthonormal", method="osinsky"):
    """CURLoRA: 78^2 numbers a layer."""
    convert_to_curlora(encoder, target_modules, rank=rank, basis=basis, method=method, progress=False, rng=rng)


def curlora_raw(encoder, rng, *, rank=78):
    """CURLoRA as published: the columns and rows themselves, drawn by inverse norms."""
    curlora(encoder, rng, rank=rank, basis="raw", method="inverse_norm")


def curlora_blocked(encoder, rng):
    """CURLoRA whose gradient is set to zero: what the head does without it."""
    curlora(encoder, rng)
    for parameter in adapter_parameters(encoder):
        parameter.register_hook(torch.zeros_like)


def tcurlora(encoder, rng, *, ranks=78, target_modules=TARGETS, form="shared_core", method="osinsky"):
    """tCURLoRA: 78 x 78 x 6 numbers for the six queries, as many for the values."""
    convert_to_tcurlora(encoder, target_modules, ranks=ranks, form=form, method=method, progress=False, rng=rng)


def tcurlora_tubal(encoder, rng, *, ranks=78):
    """The t-product's form: 78 x 78 x 6 numbers as well."""
    tcurlora(encoder, rng, ranks=ranks, form="tubal")


def adalora(encoder, rng):
    """AdaLoRA, from rank 8 down to a mean of 5."""
    convert_to_adalora(encoder, TARGETS, rank=8, progress=False, rng=rng)


def full(encoder, rng):
    """All weights but the embeddings."""
    encoder.embeddings.requires_grad_(False)


def head(encoder, rng):
    """The linear head alone."""
    encoder.requires_grad_(False)


class Method(NamedTuple):
    """What is added to the encoder, and the learning rate of that; rates were chosen with --tune."""

    adapt: Callable
    rate: float


METHODS = {
    "lora": Method(lora, 1e-3),
    "curlora": Method(curlora, 5e-3),
    "tcurlora": Method(tcurlora, 5e-3),
    "head": Method(head, 0.0),
    "curlora_blocked": Method(curlora_blocked, 5e-3),
    "full": Method(full, 3e-4),
    "adalora": Method(adalora, 5e-3),
    "lora_peft": Method(lora_peft, 1e-3),
    "lora_cur": Method(lora_cur, 1e-3),
    "curlora_raw": Method(curlora_raw, 5e-3),
    "tcurlora_tubal": Method(tcurlora_tubal, 5e-3),
}


class Task(NamedTuple):
    """Sentences to learn from and sentences to be judged by."""

    train: list
    dev: list


def task(folder, seed, *, size=2000, tune=False):
    """The seed's sentences."""
    train = sentences(folder / "train.tsv")
    order = np.random.default_rng([seed, 1]).permutation(len(train))
    left_out = [train[i] for i in order[size : size + 872]]
    return Task([train[i] for i in order[:size]], left_out if tune else sentences(folder / "dev.tsv"))


def run(adapt, learning_rate, data, seed, *, dropout=False, **options):
    """Train once: the number of trained parameters and the accuracy."""
    encoder = minilm().train(dropout)
    adapt(encoder, seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Classifier(encoder)
        train(model, learning_rate, data.train, seed, budget=5 if adapt is adalora else None, **options)
    results = evaluate_model(model, batches(data.dev, 64), metrics={"accuracy": binary_accuracy})
    return count_parameters(model)[0], results["accuracy"]


def train(model, learning_rate, examples, seed, *, budget=None, head_rate=5e-3, weight_decay=0.0, epochs=3, size=16):
    """AdamW at a rate that rises for 6 % of the steps and falls to zero; with a budget, AdaLoRA's mean rank."""
    added = [p for p in model.encoder.parameters() if p.requires_grad]
    head = {"params": list(model.head.parameters()), "lr": head_rate}
    groups = [{"params": added, "lr": learning_rate, "weight_decay": weight_decay}] if added else []
    optimizer = torch.optim.AdamW([*groups, head], weight_decay=0.0)
    steps = epochs * -(-len(examples) // size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: min((t + 1) / (0.06 * steps), 1 - t / steps))
    allocator = RankAllocator(model, budget, steps) if budget else None

    rng = np.random.default_rng([seed, 2])
    order = (batch for _ in range(epochs) for batch in batches(examples, size, rng))
    for t, (inputs, labels) in enumerate(order, 1):
        loss = F.cross_entropy(model(**inputs), labels)
        if allocator:
            loss = loss + 0.1 * orthogonality_penalty(model)
        loss.backward()
        optimizer.step()
        schedule.step()
        if allocator:
            allocator.step(t)
        optimizer.zero_grad()


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS)[:7])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--rate", type=float, help="learning rate in place of the method's own")
    parser.add_argument("--tune", action="store_true", help="judge by training sentences that were left out")
    add_training_options(parser, size=2000)
    arguments = parser.parse_args()

    folder = data_folder("sst2", arguments.data)
    done = {(row["method"], int(row["seed"]), float(row["rate"])) for row in rows_of(arguments.csv)}
    rows = []
    for seed in arguments.seeds:
        data = task(folder, seed, size=arguments.size, tune=arguments.tune)
        for name in arguments.methods:
            adapt, rate = METHODS[name]
            rate = arguments.rate or rate
            if (name, seed, rate) in done:
                continue
            start = time.process_time()
            trained, accuracy = run(adapt, rate, data, seed, epochs=arguments.epochs)
            row = {"method": name, "trained": trained, "rate": rate, "seed": seed, "accuracy": round(accuracy, 5)}
            print(f"{time.process_time() - start:.0f} s of processor time: ", end="")
            add_row(arguments.csv, row)
            rows.append(row)
    judged_by = "training sentences left out" if arguments.tune else "the development set"
    report(rows_of(arguments.csv) or rows, arguments.plot, judged_by=judged_by)


if __name__ == "__main__":
    main()
