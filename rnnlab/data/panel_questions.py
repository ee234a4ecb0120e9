"""What a table of series asks a trained model, and what it is told: the rows after its last ones.

Letters as in `rnnlab.data.panel`.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from rnnlab.data.batches import InMemoryData, Queries
from rnnlab.data.checks import check_integer
from rnnlab.data.panel import Forecast, ForecastBatch, Panel, PanelSeries
from rnnlab.data.panel_answers import write_forecasts
from rnnlab.data.panel_windows import PanelWindows

_QUERIES_A_BATCH = 256


class PanelQuestions(InMemoryData):
    """The answering side of `PanelData`, which says how a table is read and laid out in windows."""

    horizon: int
    context: int
    _asked: int

    def _read(self, path: str | Path, encoding: str | None = None, ahead: int = 0) -> Panel:
        raise NotImplementedError

    def _check_columns(self, panel: Panel) -> None:
        raise NotImplementedError

    def _lay(self, series: Sequence[PanelSeries], num_train: Sequence[int]) -> PanelWindows:
        raise NotImplementedError

    def in_levels(self, batch: ForecastBatch, forecast: Forecast) -> Forecast:
        raise NotImplementedError

    def ask_horizon(self, horizon: int) -> None:
        """Ask for forecasts of so many steps in `read_queries`, in place of those of training."""
        self._asked = check_integer("horizon", horizon, 1)

    def read_queries(self, path: str | Path, encoding: str | None = None) -> Queries:
        """Read a table of the layout trained on; the question is what follows the last row of each series.

        Raises:
            ValueError: as `read_table`, columns are missing, or a series has too few rows.
        """
        panel = self._read(path, encoding, ahead=self._asked)
        self._check_columns(panel)
        for one in panel.series:
            if one.num_rows < self.context:
                whose = f" of series {one.name!r}" if one.name else ""
                raise ValueError(f"{path}: a forecast needs at least {self.context} rows{whose}, got {one.num_rows}")
        windows = self._lay(panel.series, [one.num_rows for one in panel.series])
        origins = torch.tensor([[place, one.num_rows] for place, one in enumerate(panel.series)])
        return Queries(origins, (panel, windows), panel.notes)

    def query_batches(self, queries: Queries) -> Iterable[ForecastBatch]:
        _, windows = queries.context
        return (windows.gather(rows, self._asked) for rows in queries.inputs.split(_QUERIES_A_BATCH))

    def write_answers(self, queries: Queries, outputs: Sequence[Forecast]) -> str:
        """Return CSV lines of all forecasts, as `write_forecasts`."""
        panel, _ = queries.context
        pairs = zip(self.query_batches(queries), outputs, strict=True)
        return write_forecasts(panel, [self.in_levels(batch, forecast) for batch, forecast in pairs])

    def queries_from(self, questions: Any, folder: Path) -> Queries:
        """Return a data frame of the layout trained on as a question, or the path of a table."""
        if isinstance(questions, Path):
            return self.read_queries(questions)
        if not hasattr(questions, "to_parquet"):
            raise ValueError(f"expected a data frame or a Path, got {type(questions).__name__}")
        questions.to_parquet(folder / "questions.parquet", index=False)
        return self.read_queries(folder / "questions.parquet")

    def answers(self, queries: Queries, outputs: Sequence[Forecast]) -> Any:
        """Return the table of `write_answers` as a data frame."""
        import pandas

        return pandas.read_csv(io.StringIO(self.write_answers(queries, outputs)))

    def encode_answers(self, queries: Queries, outputs: Sequence[Forecast], suffix: str) -> bytes:
        if suffix in (".parquet", ".pq", ".gz"):
            raise ValueError(f"forecasts are written as text: output=NAME.csv, not {suffix}")
        return super().encode_answers(queries, outputs, suffix)

    def told(self, queries: Queries, outputs: Sequence[Forecast]) -> str:
        panel, _ = queries.context
        return f"{self._asked} steps of {len(panel.series)} series"
