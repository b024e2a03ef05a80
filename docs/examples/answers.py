"""Score answers to SQuAD questions, GSM8K problems and translations, with the libraries' own metrics.

Reads the data sets in their own formats and scores a file of predictions, one a line in the order of the data set::

    python docs/examples/answers.py squad --predictions answers.txt

Without a file, it scores the references themselves, which must give full marks, and a rule that understands nothing:
the bounds between which a model's figure stands. No model is run here.
"""

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import sacrebleu
from shared import data_folder
from sklearn.metrics import accuracy_score
from torchmetrics.functional.text import squad

NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


class Items(NamedTuple):
    """Questions, the right answers (of each, one or more), and those of a rule that understands nothing."""

    questions: list
    references: list
    rule: list


def squad_items(folder):
    """SQuAD's JSON: articles, paragraphs, questions. The rule: the last word of the question's paragraph."""
    articles = json.loads((folder / "xquad.en.json").read_text())["data"]
    pairs = [(p["context"], qa) for article in articles for p in article["paragraphs"] for qa in p["qas"]]
    references = [[answer["text"] for answer in qa["answers"]] for _, qa in pairs]
    return Items([qa["question"] for _, qa in pairs], references, [context.split()[-1] for context, _ in pairs])


def gsm8k_items(folder):
    """GSM8K's lines of JSON, with the answer after ####. The rule: the last number in the problem."""
    lines = [json.loads(line) for line in (folder / "test-300.jsonl").read_text().splitlines()]
    questions = [line["question"] for line in lines]
    return Items(questions, [[line["answer"]] for line in lines], questions)


def multi30k_items(folder):
    """Lines of English and of German. The rule: the English as it stands."""
    english, german = ((folder / f"test_2016_flickr.{language}").read_text().splitlines() for language in ("en", "de"))
    return Items(english, [[line] for line in german], english)


def squad_scores(predictions, references):
    """SQuAD's F1 and exact match, in percent, by torchmetrics."""
    targets = [
        {"answers": {"answer_start": [0] * len(texts), "text": texts}, "id": str(i)}
        for i, texts in enumerate(references)
    ]
    found = squad([{"prediction_text": p, "id": str(i)} for i, p in enumerate(predictions)], targets)
    return {"f1": float(found["f1"]), "exact_match": float(found["exact_match"])}


def final_number(text):
    """The number after ####, or the last one there is; as text without commas and needless zeros."""
    found = NUMBER.findall(text.rsplit("####", 1)[-1])
    return f"{float(found[-1].replace(',', '')):g}" if found else ""


def gsm8k_scores(predictions, references):
    """Accuracy of the final numbers, in percent, by scikit-learn."""
    right = [final_number(texts[0]) for texts in references]
    return {"accuracy": 100 * accuracy_score(right, [final_number(p) for p in predictions])}


def bleu_scores(predictions, references):
    """BLEU by sacrebleu."""
    return {"bleu": sacrebleu.corpus_bleu(predictions, [[texts[0] for texts in references]]).score}


class DataSet(NamedTuple):
    """Folder under the data, reader and metrics."""

    folder: str
    items: Callable
    scores: Callable


DATA_SETS = {
    "squad": DataSet("squad", squad_items, squad_scores),
    "gsm8k": DataSet("gsm8k", gsm8k_items, gsm8k_scores),
    "multi30k": DataSet("multi30k", multi30k_items, bleu_scores),
}


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("name", choices=DATA_SETS)
    parser.add_argument("--predictions", type=Path, help="one answer a line")
    parser.add_argument("--data", help="folder of the data set")
    arguments = parser.parse_args()

    folder, items, scores = DATA_SETS[arguments.name]
    found = items(data_folder(folder, arguments.data))
    if arguments.predictions:
        sets = {str(arguments.predictions): arguments.predictions.read_text().splitlines()}
    else:
        sets = {"references": [texts[0] for texts in found.references], "rule": found.rule}
    for name, predictions in sets.items():
        if len(predictions) != len(found.references):
            parser.error(f"{name} must hold {len(found.references)} lines, got {len(predictions)}")
        figures = ", ".join(f"{metric} {value:.2f}" for metric, value in scores(predictions, found.references).items())
        print(f"{arguments.name}, {name}, {len(predictions)} items: {figures}")


if __name__ == "__main__":
    main()
