"""Write the Nile and sunspots of statsmodels as CSV files: `python statsmodels_files.py FOLDER`.

Sunspots end with 1979, so that the last 59 of 280 years are the test part of what is published.
"""

import sys
from pathlib import Path

from statsmodels.datasets import nile, sunspots


def main(folder: Path) -> None:
    nile.load_pandas().data.to_csv(folder / "nile.csv", index=False)
    sunspots.load_pandas().data[:280].to_csv(folder / "sunspots.csv", index=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
