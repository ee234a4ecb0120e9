"""How often n-grams find the label that a sample was asked for: python labels.py TABLE.csv RUN_DIR...
Each run writes `SAMPLES` texts for each label, and the n-grams, of the training texts of each label, say which label
makes a text likeliest. The same is done for the texts of the test part, which is what can be expected of samples.
"""

import csv
import sys
from pathlib import Path

import numpy as np
import torch

from rnnlab.baselines import witten_bell
from rnnlab.cli.build import load
from rnnlab.data.text import encode
from rnnlab.decoding import FINISHED, sample

SAMPLES, LENGTH, ORDER = 250, 100, 5


def classify(data, texts):
    """Return the number of the label whose n-gram finds each text likeliest."""
    ids = [np.maximum(encode(text, data.vocabulary) - 1, 0) for text in texts]
    starts = np.cumsum([0, *map(len, ids)])[:-1]
    nats = []
    for number in range(len(data.labels)):
        train = [one.text for one in data.documents["train"] if one.label == number]
        train = [np.maximum(encode(text, data.vocabulary) - 1, 0) for text in train]
        nats.append(np.add.reduceat(witten_bell(train, ids, len(data.vocabulary) - 1, ORDER)[-1], starts))
    return np.argmin(nats, axis=0)


def write(model, data, number):
    """Return texts that a model writes for a label."""
    steps = sample(model.of(torch.tensor([number])), [[]] * SAMPLES, LENGTH, stop=data.vocabulary.encode(data.ending))
    rows = torch.stack(list(steps), dim=1).tolist()
    return ["".join(data.vocabulary.symbols[index] for index in row if index != FINISHED) for row in rows]


def main(table, *run_dirs):
    rows = []
    for run_dir in map(Path, run_dirs):
        data, task, _ = load(run_dir, "best", [])
        data.setup()
        for number, label in enumerate(data.labels):
            known = {one.text for one in data.documents["train"] if one.label == number}
            test = [one.text for one in data.documents["test"] if one.label == number]
            written = write(task.model, data, number)
            rows.append(
                {
                    "run": run_dir.name,
                    "label": label,
                    "samples_found": float(np.mean(classify(data, written) == number)),
                    "samples_of_training": float(np.mean([text in known for text in written])),
                    "test_found": float(np.mean(classify(data, test) == number)),
                }
            )
            print(rows[-1], flush=True)
    with open(table, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
