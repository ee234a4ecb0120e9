"""`rnnlab train`: one run, or one for each job of a sweep."""

from __future__ import annotations

import re
from typing import Any

from rnnlab.cli.compose import run_jobs
from rnnlab.cli.errors import UsageError
from rnnlab.cli.main import report


def main(words: list[str]) -> int:
    """Run `rnnlab train WORDS` and return the exit code; in a sweep a failing job does not stop the others."""
    if {"-m", "--multirun"} & set(words) and any(re.match(r"(paths\.)?run_dir=", word) for word in words):
        raise UsageError("a sweep has a directory for each job: set paths.root=DIR instead of run_dir")
    words = [_run_dir_override(word) if word.startswith("run_dir=") else word for word in words]
    codes: list[int] = []

    def job(config: dict[str, Any]) -> None:
        # Only now, so that `--cfg job` and a mistyped override do not wait for torch.
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode

        from rnnlab.cli.fit import train

        hydra = HydraConfig.get()
        if hydra.mode != RunMode.MULTIRUN:
            train(config, given=list(hydra.overrides.task))
            return
        config["paths"]["run_dir"] = hydra.runtime.output_dir
        try:
            train(config, given=[])
        except Exception as error:
            codes.append(report(error))

    run_jobs(words, job)
    return max(codes, default=0)


def _run_dir_override(word: str) -> str:
    """Return Hydra's form of `run_dir=DIR`, quoted, since a path may hold what its grammar reads as more than text."""
    from hydra.core.override_parser.types import Quote, QuotedString

    value = word.partition("=")[2]
    is_plain = value in ("", "null") or value[0] in "'\""
    return f"paths.run_dir={value if is_plain else QuotedString(value, Quote.single).with_quotes()}"
