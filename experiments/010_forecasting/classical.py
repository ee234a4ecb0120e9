"""The classical rivals on AirPassengers, the Nile and sunspots: `python classical.py > classical.csv`.

Parameters are estimated once, on what comes before the first forecast, and again at each origin where "refit" stands.
AirPassengers lies below RNNLAB_DATA; the other two are files of statsmodels.
"""

import csv
import os
import sys
import time
from pathlib import Path

import numpy as np
import statsmodels.datasets as datasets

from rnnlab.baselines import forecast_by

AIR = {
    "naive": {},
    "seasonal_naive": {},
    "ar": {"order": 13, "log": True},
    "arima": {"log": True},
    "ets": {},
    "ets A,M": {"trend": "add", "seasonal": "mul"},
    "ets A,A of logarithms": {"trend": "add", "seasonal": "add", "log": True},
    "theta": {},
    "kalman level": {"level": "level", "log": True},
    "kalman trend": {"level": "trend", "log": True},
    "kalman trend, harmonics": {"level": "trend", "harmonics": 6, "log": True},
}
NILE = {
    "naive": {},
    "ar": {"order": 1},
    "arima": {"order": (0, 1, 1)},
    "ets": {},
    "theta": {},
    "kalman level": {},
    "kalman trend": {"level": "trend"},
}
SUNSPOTS = {
    "naive": {},
    "ar 2": {"order": 2},
    "ar 9": {"order": 9},
    "arima (9,0,0), constant": {"order": (9, 0, 0), "constant": True},
    "arima (2,0,1), constant": {"order": (2, 0, 1), "constant": True},
    "ets": {},
    "theta": {},
    "kalman level and cycle": {"cycle": True},
    "kalman constant and cycle": {"level": "constant", "cycle": True},
}


def main() -> None:
    air_file = Path(os.environ["RNNLAB_DATA"]) / "air-passengers" / "air_passengers.csv"
    air = np.loadtxt(air_file, delimiter=",", skiprows=1, usecols=1)
    nile = datasets.nile.load_pandas().data["volume"].to_numpy()
    sunspots = datasets.sunspots.load_pandas().data["SUNACTIVITY"].to_numpy()
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["series", "forecast", "method", "rmse", "mape", "mse", "seconds"])

    def measure(series, name, methods, values, first, origins, horizon, season=None, refit=False, part=slice(None)):
        for method, options in methods.items():
            began = time.perf_counter()
            forecast = forecast_by(method.split()[0], values, first, origins, horizon, season, refit=refit, **options)
            seconds = time.perf_counter() - began
            truth = np.array([values[origin : origin + horizon] for origin in origins])
            error, label = (forecast - truth)[part], f"{method}, refit" if refit else method
            mape = 100 * np.mean(np.abs(error / truth[part])) if (truth[part] != 0).all() else float("nan")
            mse = np.mean(error**2)
            writer.writerow([series, name, label, f"{mse**0.5:.2f}", f"{mape:.2f}", f"{mse:.1f}", f"{seconds:.2f}"])

    for months in (12, 24, 48):
        first = 144 - months
        measure("AirPassengers", f"last {months} months at once", AIR, air, first, [first], months, 12)
    origins = np.arange(96, 144)
    measure("AirPassengers", "one step, last 48 months", AIR, air, 96, origins, 1, 12)
    again = {name: AIR[name] for name in ("ar", "arima", "ets A,M", "theta", "kalman level")}
    measure("AirPassengers", "one step, last 48 months", again, air, 96, origins, 1, 12, refit=True)
    measure("Nile", "one step, last 50 years", NILE, nile, 50, np.arange(50, 100), 1)
    measure("Nile", "one step, last 50 years", {"kalman level": {}}, nile, 50, np.arange(50, 100), 1, refit=True)
    years = np.arange(221, 280)
    measure("sunspots", "one step, 1921-55", SUNSPOTS, sunspots, 221, years, 1, part=slice(0, 35))
    measure("sunspots", "one step, 1956-79", SUNSPOTS, sunspots, 221, years, 1, part=slice(35, None))
    measure("sunspots", "one step, 1921-79", SUNSPOTS, sunspots, 221, years, 1)


if __name__ == "__main__":
    main()
