"""Sentiment of sentences: LoRA with five starts, CURLoRA, tCURLoRA, AdaLoRA, full training and a head, with seeds.

MiniLM (six layers, width 384), query and value projections adapted, mean pooling and a linear head, 1,000 sentences,
three epochs; accuracy on the 872 sentences of the development set. A seed chooses the sentences, their order, the
head and the adapter. All adapters are PEFT's, or tuners of PEFT::

    python docs/examples/sst2.py --methods lora curlora tcurlora --seeds 0 1 2 --csv sst2.csv --plot sst2.png

Each run is a line of the table; runs that are in it already are not made again. With ``--tune``, accuracy is on
training sentences that were left out, to choose learning rates by.
"""

import argparse
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import peft
import torch
import torch.nn.functional as F
from runs import add_row, report, rows_of
from shared import Classifier, add_training_options, batches, data_folder, minilm, sentences

from curtensor import adapters

TARGETS = ["query", "value"]


def with_config(model, config):
    """The model with adapters as PEFT puts them in, and its head trained whole."""
    config.modules_to_save = ["head"]
    return peft.get_peft_model(model, config)


def lora(model, data, seed, *, rank=8, alpha=None, init=True, target_modules=TARGETS):
    """PEFT's LoRA with one of its starts: 8 (384 + 384) numbers a layer."""
    alpha = 2 * rank if alpha is None else alpha
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=target_modules, init_lora_weights=init)
    return with_config(model, config)


def lora_cur(model, data, seed, *, init="cur"):
    """The same with A from chosen rows of the weight."""
    return adapters.initialize_lora_cur_weights(lora(model, data, seed), init=init, progress=False, rng=seed)


def pissa(model, data, seed, *, rank=8):
    """PEFT's LoRA from the leading singular vectors, which are taken out of the weight."""
    return lora(model, data, seed, rank=rank, alpha=rank, init="pissa")


def eva(model, data, seed, *, rank=8):
    """PEFT's LoRA with A from the leading directions of the layers' inputs."""
    config = peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=TARGETS, init_lora_weights="eva")
    config.eva_config = peft.EvaConfig(rho=1.0)
    model = with_config(model, config)
    peft.initialize_lora_eva_weights(model, [inputs for inputs, _ in batches(data.train, 16)], show_progress_bar=False)
    return model


def corda(model, data, seed, *, rank=8):
    """PEFT's LoRA from weights and the covariance of the layers' inputs, taken out of the weight."""
    from peft.tuners.lora.corda import preprocess_corda

    config = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=TARGETS, init_lora_weights="corda")
    config.corda_config = peft.tuners.lora.config.CordaConfig(corda_method="ipm")

    def run_model():
        for inputs, _ in batches(data.train, 1):
            model(**inputs)

    preprocess_corda(model, config, run_model=run_model)
    return with_config(model, config)


def curlora(model, data, seed, *, rank=78, target_modules=TARGETS, basis="orthonormal", method="osinsky"):
    """CURLoRA: 78^2 numbers a layer."""
    options = {"basis": basis, "method": method, "seed": seed}
    return with_config(model, adapters.CURLoRAConfig(r=rank, target_modules=target_modules, **options))


def curlora_raw(model, data, seed, *, rank=78):
    """CURLoRA as published: the columns and rows themselves, drawn by inverse norms."""
    return curlora(model, data, seed, rank=rank, basis="raw", method="inverse_norm")


def tcurlora(model, data, seed, *, ranks=78, form="shared_core", target_modules=TARGETS):
    """tCURLoRA: 78 x 78 x 6 numbers for the six queries, as many for the values."""
    return with_config(model, adapters.TCURLoRAConfig(r=ranks, form=form, target_modules=target_modules, seed=seed))


def tcurlora_tubal(model, data, seed, *, ranks=78):
    """The t-product's form: 78 x 78 x 6 numbers as well."""
    return tcurlora(model, data, seed, ranks=ranks, form="tubal")


def adalora(model, data, seed, *, epochs=3, size=16):
    """PEFT's AdaLoRA with our start, from rank 8 down to a mean of 5."""
    steps = epochs * -(-len(data.train) // size)
    config = peft.AdaLoraConfig(
        init_r=8, target_r=5, lora_alpha=16, target_modules=TARGETS, total_step=steps, tinit=steps // 6,
        tfinal=steps // 2, deltaT=5,
    )  # fmt: skip
    return adapters.initialize_lora_cur_weights(with_config(model, config), progress=False, rng=seed)


def full(model, data, seed):
    """All weights but the embeddings."""
    model.encoder.embeddings.requires_grad_(False)
    return model


def head(model, data, seed):
    """The linear head alone."""
    model.encoder.requires_grad_(False)
    return model


class Method(NamedTuple):
    """What is added to the model, and the learning rate of that; rates were chosen with --tune."""

    adapt: Callable
    rate: float


METHODS = {
    "lora": Method(lora, 1e-3),
    "curlora": Method(curlora, 5e-3),
    "tcurlora": Method(tcurlora, 5e-3),
    "lora_cur": Method(lora_cur, 1e-3),
    "pissa": Method(pissa, 1e-3),
    "eva": Method(eva, 1e-3),
    "corda": Method(corda, 1e-3),
    "head": Method(head, 0.0),
    "full": Method(full, 3e-4),
    "adalora": Method(adalora, 5e-3),
    "curlora_raw": Method(curlora_raw, 5e-3),
    "tcurlora_tubal": Method(tcurlora_tubal, 5e-3),
}


class Task(NamedTuple):
    """Sentences to learn from and sentences to be judged by."""

    train: list
    dev: list


def task(folder, seed, *, size=1000, tune=False):
    """The seed's sentences."""
    train = sentences(folder / "train.tsv")
    order = np.random.default_rng([seed, 1]).permutation(len(train))
    left_out = [train[i] for i in order[size : size + 872]]
    return Task([train[i] for i in order[:size]], left_out if tune else sentences(folder / "dev.tsv"))


def run(adapt, learning_rate, data, seed, **options):
    """Train once: the number of trained parameters and the accuracy."""
    torch.manual_seed(seed)
    model = adapt(Classifier(minilm()), data, seed).eval()  # no dropout, also while it is trained
    train(model, learning_rate, data.train, seed, **options)
    return adapters.count_parameters(model)[0], adapters.evaluate_model(model, batches(data.dev, 64))["accuracy"]


def train(model, learning_rate, examples, seed, *, head_rate=5e-3, epochs=3, size=16):
    """AdamW at a rate that rises for 6 % of the steps and falls to zero."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    head = [p for name, p in trained.items() if "head" in name]
    added = [p for name, p in trained.items() if "head" not in name]
    groups = [{"params": added, "lr": learning_rate}] if added else []
    optimizer = torch.optim.AdamW([*groups, {"params": head, "lr": head_rate}], weight_decay=0.0)
    steps = epochs * -(-len(examples) // size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: min((t + 1) / (0.06 * steps), 1 - t / steps))
    budget = getattr(getattr(model, "base_model", None), "update_and_allocate", None)  # AdaLoRA's

    rng = np.random.default_rng([seed, 2])
    order = (batch for _ in range(epochs) for batch in batches(examples, size, rng))
    for t, (inputs, labels) in enumerate(order, 1):
        F.cross_entropy(model(**inputs), labels).backward()
        optimizer.step()
        schedule.step()
        if budget:
            budget(t)
        optimizer.zero_grad()


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS)[:8])
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(6)))
    parser.add_argument("--rates", nargs="+", type=float, help="learning rates in place of the method's own")
    parser.add_argument("--tune", action="store_true", help="judge by training sentences that were left out")
    add_training_options(parser, size=1000)
    arguments = parser.parse_args()

    folder = data_folder("sst2", arguments.data)
    done = {(row["method"], int(row["seed"]), float(row["rate"])) for row in rows_of(arguments.csv)}
    rows = []
    for seed in arguments.seeds:
        data = task(folder, seed, size=arguments.size, tune=arguments.tune)
        for name in arguments.methods:
            for rate in arguments.rates or [METHODS[name].rate]:
                if (name, seed, rate) in done:
                    continue
                start = time.process_time()
                trained, accuracy = run(METHODS[name].adapt, rate, data, seed, epochs=arguments.epochs)
                row = {"method": name, "trained": trained, "rate": rate, "seed": seed, "accuracy": round(accuracy, 5)}
                print(f"{time.process_time() - start:.0f} s of processor time: ", end="")
                add_row(arguments.csv, row)
                rows.append(row)
    judged_by = "training sentences left out" if arguments.tune else "the development set"
    report(rows_of(arguments.csv) or rows, arguments.plot, judged_by=judged_by)


if __name__ == "__main__":
    main()
