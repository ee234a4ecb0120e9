"""What the tests of the tasks share: a silent trainer and one-batch data."""

import lightning.pytorch as pl

from rnnlab.data import InMemoryData, window_loader


def quiet_trainer(tmp_path, **arguments):
    """Return a CPU trainer that writes nothing and prints nothing."""
    return pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=tmp_path,
        **arguments,
    )


class GivenData(InMemoryData):
    """Serves given tensors as every split."""

    def __init__(self, tensors, batch_size):
        super().__init__(batch_size, shuffle_seed=0)
        self.tensors = tensors

    def make_splits(self):
        return dict.fromkeys(("train", "val", "test"), self.tensors)


class Windowed(GivenData):
    """Serves given tensors (N, T, ...) in windows for training, whole for evaluation."""

    def __init__(self, tensors, batch_size, steps):
        super().__init__(tensors, batch_size)
        self.steps = steps

    def train_dataloader(self):
        return window_loader(*self.splits["train"], self.batch_size, self.steps, self.shuffle_seed)


def first_rows(data, num_rows):
    """Return data that serve the first training rows of `data` and nothing else, in one batch."""
    data.setup()
    given = GivenData(tuple(tensor[:num_rows] for tensor in data.splits["train"]), num_rows)
    if hasattr(data, "to_level"):
        given.to_level = data.to_level
    return given
