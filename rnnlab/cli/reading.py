"""What `rnnlab diagnose` shows of a character model that reads a passage."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rnnlab.analysis.units import Match
    from rnnlab.callbacks.recording import Recording

_WIDTH = 80  # characters a line of the pictures
_PANELS, _PANEL_ROWS = 4, 8  # units in the picture of units, and lines of text for each


class Passage(NamedTuple):
    """A text to be read.

    Attributes:
        text: N characters.
        context: what stands before them in their document; read first, neither drawn nor counted.
        source: where they come from, in words.
        label: number of their document's label, if it has one.
    """

    text: str
    context: str
    source: str
    label: int | None = None


def choose_passage(
    data: Any, source: str | None, length: int, encoding: str | None = None, label: int | None = None
) -> Passage:
    """Return the beginning of the first document that has `length` characters, or of the longest.

    Args:
        data: a character model's data module; it is set up if its validation text is asked for.
        source: file or pattern of files; None for the validation text.
        length: characters of the passage, if there are as many.
        encoding: of the files, as Python names it; None for that of the data.
        label: number of the label of the files, or of the validation text wanted; None if there are none, or for any.

    Raises:
        ValueError: a file cannot be read, or there are less than two characters.
    """
    from rnnlab.callbacks.recording import choose_document
    from rnnlab.data.documents import Document, read_documents

    if source is None:
        data.setup()
        documents, name = data.documents["val"], "the validation text"
        documents = [one for one in documents if label is None or one.label == label]
    else:
        documents = [Document(text) for text in read_documents(source, encoding or data.encoding)]
        name = Path(source).name
    document = choose_document(documents, length)
    text, context = document.text, document.context
    if len(text) < 2:
        raise ValueError(f"a passage needs at least 2 characters, {source or name} has {len(text)}")
    return Passage(text[:length], context, name, getattr(document, "label", label))


def draw_reading(model: Any, vocabulary: Any, passage: Passage, length: int, name: str) -> dict[str, Figure]:
    """Let a character model read a passage, print which units follow what, and return pictures by file name.

    Units are chosen on one part of the passage, and what is said and shown of them is of another: on the text it was
    picked by, the best of a thousand units follows anything.

    Args:
        model, vocabulary: as `rnnlab.callbacks.recording.record` takes them.
        passage: at least 2 characters.
        length: how many of its first characters are in the picture of surprise. Units are chosen on those behind them,
            but on no less than the second half of the passage.
        name: of the run, for titles.
    """
    from rnnlab.analysis.text_grid import without_glyph
    from rnnlab.analysis.text_plots import surprise_map
    from rnnlab.callbacks.console import console
    from rnnlab.callbacks.figures import tell_missing
    from rnnlab.callbacks.recording import reader_of, record
    from rnnlab.callbacks.text_samples import outside

    text, context, source, _ = passage
    unknown = outside(text, vocabulary)
    if unknown:
        print(f"rnnlab: not in the vocabulary, read as unknown: {unknown}", file=sys.stderr)
    with console.status(f"reading {len(context + text):,} characters"):
        recording = record(reader_of(model, passage), vocabulary, text, context)
    tell_missing("the pictures", without_glyph(text[:length]))
    title = f"Surprise at {source} ({name})"
    figures = {"surprise": surprise_map(text[:length], recording.nats[:length], title, _WIDTH)}
    shown = slice(min(length, len(text) // 2))
    matches = _match(passage, recording, shown)
    if matches:
        _print_table(matches, recording.units, shown.stop, name)
        figures["units"] = _draw_units(matches, passage, recording, shown, name)
    else:
        console.print("no picture of units: in so short a passage nothing varies that they might follow")
    return figures


def _features(passage: Passage) -> dict[str, Any]:
    """Return the features (N,) of a passage's characters, which depend on what stands before it too."""
    from rnnlab.analysis.units import text_features

    features = text_features(passage.context + passage.text)
    return {name: values[len(passage.context) :] for name, values in features.items()}


def _match(passage: Passage, recording: Recording, shown: slice) -> list[Match]:
    """Return the best unit for each feature, chosen on what is behind `shown` and reported on `shown`."""
    from rnnlab.analysis.units import best_units

    features = _features(passage)
    held_out, chosen_on = (
        (recording.states[part], {name: values[part] for name, values in features.items()})
        for part in (shown, slice(shown.stop, None))
    )
    return best_units(*chosen_on, held_out=held_out)


def _print_table(matches: Sequence[Match], units: Sequence[str], num_shown: int, name: str) -> None:
    from rich.table import Table
    from rich.text import Text

    from rnnlab.callbacks.console import console

    table = Table(title=Text(f"{name}: hidden units and what they follow"), title_justify="left")
    table.add_column("feature")
    table.add_column("unit")
    table.add_column("correlation", justify="right")
    table.add_column("where chosen", justify="right", style="dim")
    for match in matches:
        numbers = (f"{value:+.2f}" for value in (match.correlation, match.chosen_at))
        table.add_row(match.feature, units[match.unit], *numbers)
    console.print(table)
    console.print(
        f"Each unit is the one of {len(units):,} that follows its feature most closely on the text behind the first "
        f"{num_shown:,} characters, where it was chosen. The correlation is that on the first {num_shown:,}."
    )


def _draw_units(matches: Sequence[Match], passage: Passage, recording: Recording, shown: slice, name: str) -> Figure:
    """Draw the units of the best matches, each once, over the lines in which its feature varies most."""
    from rnnlab.analysis.text_grid import liveliest_rows
    from rnnlab.analysis.text_plots import UnitPanel, unit_map

    text, features = passage.text[shown], _features(passage)
    panels: dict[int, UnitPanel] = {}
    for match in matches:
        if match.unit not in panels and len(panels) < _PANELS:
            part = liveliest_rows(text, features[match.feature][shown], _PANEL_ROWS, _WIDTH)
            title = f"{recording.units[match.unit]}: {match.feature}, correlation {match.correlation:+.2f}"
            panels[match.unit] = UnitPanel(title, text[part], recording.states[part, match.unit])
    return unit_map(list(panels.values()), f"Hidden units over {passage.source} ({name})", _WIDTH)
