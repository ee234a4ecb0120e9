"""Fixtures and markers for all tests, and the short set of them."""

import dataclasses
import itertools
import os
import signal
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tests.cluster import slurm
from tests.covering import covering, options_of

INTERPRETING = os.environ.get("TRITON_INTERPRET") == "1"


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "of each parametrised test only cases in which all pairs of its options stand, and nothing slow"
    parser.addoption("--short", action="store_true", help=text)


def check_overflow(check: bool) -> None:
    """Let Triton's interpreter look for overflow after each integer operation, a third of its time, or not."""
    from triton.runtime.interpreter import interpreter_builder

    interpreter_builder.options = dataclasses.replace(interpreter_builder.options, sanitize_overflow=check)


def pytest_configure() -> None:
    # A shell has what it starts behind `&` ignore Ctrl-C, and the processes that tests start would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if INTERPRETING:  # tests of offsets look for it
        check_overflow(False)


@pytest.hookimpl(trylast=True)  # after -m and -k have chosen
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what this machine or this process cannot run. Interpreted kernels cannot be compiled in the same process."""
    lacks = slurm.missing()
    for item in items:
        if item.get_closest_marker("cluster") and lacks:
            item.add_marker(pytest.mark.skip(reason=f"needs SLURM, {lacks[0]} is not installed"))
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="torch sees no CUDA device"))
        if item.get_closest_marker("interpret") and not INTERPRETING:
            item.add_marker(pytest.mark.skip(reason="needs TRITON_INTERPRET=1 in a process of its own"))
    if config.getoption("short"):
        short = _short(items)
        config.hook.pytest_deselected(items=[item for item in items if item not in short])
        items[:] = [item for item in items if item in short]


def _short(items: list[pytest.Item]) -> set[pytest.Item]:
    """Return the short set: what is not slow, and of each parametrised test a covering part."""
    groups: dict[Any, list[Any]] = defaultdict(list)
    for item in items:
        if not item.get_closest_marker("slow"):
            # Cases that run in another process, or not here, cover nothing for the others.
            markers = tuple(bool(item.get_closest_marker(name)) for name in ("interpret", "gpu"))
            groups[item.nodeid.partition("[")[0], markers].append(item)
    short = set()
    for cases in groups.values():
        options = [options_of(case.callspec.params) for case in cases if hasattr(case, "callspec")]
        together = 1 if cases[0].get_closest_marker("interpret") else 2
        short |= {cases[place] for place in (covering(options, together) if options else range(len(cases)))}
    return short


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Count the skipped tests by reason."""
    reasons = Counter(
        report.longrepr[2].removeprefix("Skipped: ") for report in terminalreporter.stats.get("skipped", [])
    )
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"skipped {count}: {reason}")


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
def table_file(tmp_path_factory):
    """Seven years of months, as air passengers are."""
    path = tmp_path_factory.mktemp("table") / "passengers.csv"
    rows = [f"{1950 + k // 12}-{k % 12 + 1:02d},{100 + 2 * k + 30 * ((5 * k) % 12 > 6)}" for k in range(84)]
    path.write_text("month,passengers\n" + "\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="session")
def text_file(tmp_path_factory):
    """Six thousand characters with a rhythm, a bracket and a quotation now and then."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    lines = [f"{index % 7} birds (or {index % 5}) sang 'la{' la' * (index % 3)}'.\n" for index in range(220)]
    path.write_text("".join(lines))
    return path


@pytest.fixture(scope="session")
def labelled_file(tmp_path_factory):
    """Lines label<TAB>text: of one label in small letters, of the other in capitals, but for their first character."""
    path = tmp_path_factory.mktemp("labelled") / "labelled.tsv"
    lines = [f"{index % 7} birds sang la{' la' * (index % 3)}" for index in range(120)]
    path.write_text("".join(f"loud\t{line.upper()}\nsoft\t{line}\n" for line in lines))
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


@pytest.fixture(scope="session")
def pairs_file(tmp_path_factory):
    """Words of two to four of the letters a to e, and the same in capitals."""
    words = ["".join(letters) for size in (2, 3, 4) for letters in itertools.product("abcde", repeat=size)]
    path = tmp_path_factory.mktemp("pairs") / "pairs.tsv"
    path.write_text("".join(f"{word}\t{word.upper()}\n" for word in words[::2]))
    return path
