"""The tutorial's demos on torch's own `nn.TransformerEncoder`: LoRA, CURLoRA and tCURLoRA side by side.

A small encoder is trained to say which of two tokens a sequence has more of. Then it is frozen, and adapters learn
another question: which of the two comes first. Printed for each: trained numbers, file size, accuracy before and
after, how far outputs differ between the modes in which torch takes its fast path and those in which it does not, how
far merged ones differ, and the time of a step::

    python docs/examples/transformer_encoder.py
"""

import argparse
import copy
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from curtensor import adapters

TARGETS = ["linear1", "linear2", "out_proj"]
METHODS = {
    "LoRA r=4": lambda model: adapters.convert_to_lora(model, TARGETS, rank=4, modules_to_save=["head"], rng=0),
    "CURLoRA k=24": lambda model: adapters.convert_to_curlora(model, TARGETS, rank=24, modules_to_save=["head"], rng=0),
    "tCURLoRA (24, 24, 2)": lambda model: adapters.convert_to_tcurlora(
        model, TARGETS, ranks=24, modules_to_save=["head"], rng=0
    ),
}
LENGTH, WIDTH, TOKENS = 10, 48, 8


class Encoder(nn.Module):
    """Two classes by a linear head on the mean of an encoder's outputs at the tokens."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(TOKENS, WIDTH, padding_idx=0)
        self.place = nn.Parameter(0.3 * torch.randn(LENGTH, WIDTH))
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 2 * WIDTH, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(WIDTH, 2)

    def forward(self, tokens):
        """Logits of the two classes; token 0 is padding."""
        padding = tokens == 0
        outputs = self.encoder(self.embedding(tokens) + self.place, src_key_padding_mask=padding)
        counts = (~padding)[:, :, None]
        return self.head((outputs * counts).sum(dim=1) / counts.sum(dim=1))


def sequences(n, rng):
    """Sequences of tokens, padded, in which 1 and 2 both occur."""
    tokens = torch.randint(1, TOKENS, (n, LENGTH), generator=rng)
    lengths = torch.randint(4, LENGTH + 1, (n,), generator=rng)
    tokens[:, 0], tokens[:, 1] = 1, 2
    order = torch.rand((n, LENGTH), generator=rng).masked_fill(torch.arange(LENGTH) >= lengths[:, None], 2.0).argsort(1)
    return tokens.masked_fill(torch.arange(LENGTH) >= lengths[:, None], 0).gather(1, order)


def more(tokens):
    """Whether there are more 2 than 1."""
    return ((tokens == 2).sum(dim=1) > (tokens == 1).sum(dim=1)).long()


def first(tokens):
    """Whether 2 comes before 1."""
    return ((tokens == 2).float().argmax(dim=1) < (tokens == 1).float().argmax(dim=1)).long()


def train(model, question, steps, rate):
    """AdamW on new sequences in each step; the time of a step."""
    rng = torch.Generator().manual_seed(1)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate, weight_decay=0.0)
    model.train()
    times = []
    for _ in range(steps):
        tokens = sequences(64, rng)
        start = time.process_time()
        F.cross_entropy(model(tokens), question(tokens)).backward()
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.process_time() - start)
    return min(times)


def outputs_in_all_modes(model, tokens):
    """Logits in training and in evaluation mode, with and without gradients."""
    found = []
    for training in (True, False):
        model.train(training)
        found.append(model(tokens).detach())
        with torch.no_grad():
            found.append(model(tokens))
    return found


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--steps", type=int, default=400)
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(0)
    base = Encoder()
    train(base, more, arguments.steps, 2e-3)
    judged = sequences(2000, torch.Generator().manual_seed(2))
    for question in (more, first):
        accuracy = adapters.evaluate_model(base, [(judged, question(judged))])["accuracy"]
        print(f"base, {question.__doc__[:-1].lower()}: accuracy {accuracy:.3f}")
    for name, convert in METHODS.items():
        model = convert(copy.deepcopy(base))
        same = torch.equal(model.eval()(judged), base.eval()(judged))
        seconds = train(model, first, arguments.steps, 5e-3)
        accuracy = adapters.evaluate_model(model, [(judged, first(judged))])["accuracy"]
        modes = outputs_in_all_modes(model, judged)
        apart = max(float((logits - modes[0]).abs().max()) for logits in modes)
        with tempfile.TemporaryDirectory() as folder:
            adapters.save_adapter(model, folder)
            size = sum(path.stat().st_size for path in Path(folder).iterdir())
        adapters.merge(model)
        merged = float((model(judged) - modes[0]).abs().max())
        trained, _ = adapters.count_parameters(model)
        print(
            f"{name}: {trained:,} trained, {size:,} bytes, the base's outputs at first: {same}, "
            f"accuracy {accuracy:.3f}, modes differ by {apart:.1e}, merged by {merged:.1e}, "
            f"{1e3 * seconds:.1f} ms a step"
        )


if __name__ == "__main__":
    main()
