"""Fixtures and markers for all tests."""

import os
from collections.abc import Iterator

import pytest
import torch

INTERPRETING = os.environ.get("TRITON_INTERPRET") == "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine or this process cannot run. Interpreted kernels cannot be compiled in the same process."""
    for item in items:
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="torch sees no CUDA device"))
        if item.get_closest_marker("interpret") and not INTERPRETING:
            item.add_marker(pytest.mark.skip(reason="needs TRITON_INTERPRET=1 in a process of its own"))


@pytest.fixture(autouse=True)
def _torch_defaults() -> Iterator[None]:
    """Seed every test alike, and put back what it changes of torch's global state."""
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    deterministic = torch.are_deterministic_algorithms_enabled()
    tf32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)
    torch.set_default_dtype(dtype)
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = tf32


@pytest.fixture(scope="session")
def text_file(tmp_path_factory):
    """Six thousand characters with a rhythm, a bracket and a quotation now and then."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    lines = [f"{index % 7} birds (or {index % 5}) sang 'la{' la' * (index % 3)}'.\n" for index in range(220)]
    path.write_text("".join(lines))
    return path


@pytest.fixture(scope="session")
def conllu_file(tmp_path_factory):
    """Sixty sentences of a treebank of four tags, with a comment, a multiword range and an empty node in each."""
    words = {"DET": ["the", "a"], "NOUN": ["dog", "run", "walk"], "VERB": ["run", "walk", "sees"], "PUNCT": ["."]}
    sentences = []
    for index in range(60):
        tags = ["DET", "NOUN", "VERB", "DET", "NOUN", "PUNCT"]
        rows = [f"# sent_id = {index}", "1-2\tthedog\t_\t_\t_\t_\t_\t_\t_\t_"]
        for number, tag in enumerate(tags, start=1):
            form = words[tag][(index + number) % len(words[tag])]
            rows.append(f"{number}\t{form}\t_\t{tag}\t_\t_\t0\troot\t_\t_")
        rows.insert(5, "3.1\tthat\t_\tPRON\t_\t_\t_\t_\t_\t_")
        sentences.append("\n".join(rows) + "\n\n")
    path = tmp_path_factory.mktemp("treebank") / "small.conllu"
    path.write_text("".join(sentences))
    return path
