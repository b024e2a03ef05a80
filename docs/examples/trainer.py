"""tCURLoRA in transformers' Trainer: trained, saved, resumed from a checkpoint, and evaluated.

MiniLM with a classification head learns SST-2 from some sentences. A second run starts from the checkpoint after the
first epoch, and must end where the first one did, to the bit. The file is then read into a fresh base::

    python docs/examples/trainer.py --size 200

A minute of one core with 200 sentences, of which the accuracy means nothing: sst2.py measures that.
"""

import argparse
import tempfile
from pathlib import Path

import peft
import torch
from shared import data_folder, model_folder, sentences
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassF1Score
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    set_seed,
)

from curtensor.adapters import TCURLoRAConfig, evaluate_model

CONFIG = {"r": [40, 40, 6], "target_modules": ["query", "value"], "task_type": "SEQ_CLS", "seed": 0}


def base_model():
    """MiniLM with an untrained head, the same each time."""
    set_seed(0)
    return AutoModelForSequenceClassification.from_pretrained(model_folder(), num_labels=2)


def examples(path, size):
    """Some sentences as a Trainer takes them."""
    return [{"input_ids": ids.tolist(), "labels": label} for ids, label in sentences(path)[:size]]


def trainer_of(folder, train, dev):
    """A Trainer with an adapted model, which saves after each of two epochs."""
    model = peft.get_peft_model(base_model(), TCURLoRAConfig(**CONFIG))
    arguments = TrainingArguments(
        output_dir=str(folder), num_train_epochs=2, per_device_train_batch_size=16, learning_rate=5e-3,
        weight_decay=0.0, save_strategy="epoch", eval_strategy="epoch", report_to="none", use_cpu=True,
        disable_tqdm=True, logging_strategy="no", seed=0,
    )  # fmt: skip
    collate = DataCollatorWithPadding(AutoTokenizer.from_pretrained(model_folder()))
    return Trainer(model, arguments, train_dataset=train, eval_dataset=dev, data_collator=collate)


def trained_numbers(model):
    """What was trained, by name."""
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--size", type=int, default=200, help="sentences to learn from, and to be judged by")
    parser.add_argument("--data", help="folder with train.tsv and dev.tsv")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    data = data_folder("sst2", arguments.data)
    train, dev = (examples(data / f"{part}.tsv", arguments.size) for part in ("train", "dev"))
    with tempfile.TemporaryDirectory() as folder:
        first = trainer_of(Path(folder) / "first", train, dev)
        first.model.print_trainable_parameters()
        first.train()
        checkpoints = sorted((Path(folder) / "first").glob("checkpoint-*"), key=lambda path: int(path.name[11:]))
        second = trainer_of(Path(folder) / "second", train, dev)
        second.train(resume_from_checkpoint=str(checkpoints[0]))
        wanted, found = trained_numbers(first.model), trained_numbers(second.model)
        print("resumed equals uninterrupted:", all(torch.equal(found[name], wanted[name]) for name in wanted))

        file = checkpoints[-1] / "adapter_model.safetensors"
        loaded = peft.PeftModel.from_pretrained(base_model(), checkpoints[-1])
        loader = DataLoader(dev, batch_size=64, collate_fn=first.data_collator)
        metrics = {"f1": MulticlassF1Score(num_classes=2)}
        own, again = (evaluate_model(model, loader, metrics=metrics) for model in (first.model, loaded))
        print(f"file of {file.stat().st_size:,} bytes; loaded equals trained: {own == again}; F1 {own['f1']:.3f}")
        print(f"Trainer's loss {first.evaluate()['eval_loss']:.4f}, evaluate_model's {own['loss']:.4f}")


if __name__ == "__main__":
    main()
