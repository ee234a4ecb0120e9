"""A table that is written in any format is read back to the last digit; what was found out is how it was written."""

import csv
import datetime
import io

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnlab.data.tables import TableForm, read_table

NUMBERS = st.floats(-1e12, 1e12, allow_subnormal=False) | st.integers(-(10**9), 10**9).map(float)
STEPS = {
    "h": datetime.timedelta(hours=1),
    "15min": datetime.timedelta(minutes=15),
    "D": datetime.timedelta(days=1),
    "W": datetime.timedelta(weeks=1),
    "36h": datetime.timedelta(hours=36),
}
DATES = [
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M:%SZ",
    "%d.%m.%Y %H:%M",
    "%d/%m/%Y %H:%M:%S",
    "%m/%d/%Y %I:%M %p",
    "%d %b %Y %H:%M",
]


def write_number(value: float, decimal: str, thousands: str) -> str:
    text = np.format_float_positional(value, trim="-")
    whole, _, rest = text.partition(".")
    sign, digits = whole[: len(whole) - len(whole.lstrip("-"))], whole.lstrip("-")
    groups = [digits[max(0, end - 3) : end] for end in range(len(digits), 0, -3)][::-1]
    return sign + (thousands.join(groups) if thousands else digits) + (decimal + rest if rest else "")


@st.composite
def formats(draw):
    separator = draw(st.sampled_from([",", ";", "\t", "|"]))
    decimal = draw(st.sampled_from([".", ","]))
    thousands = draw(st.sampled_from(["", ".", ",", "'", " ", "\u202f"]).filter(lambda sign: sign != decimal))
    return separator, decimal, thousands


@settings(max_examples=150, deadline=None)
@given(
    written=formats(),
    date_format=st.sampled_from(DATES),
    frequency=st.sampled_from(list(STEPS)),
    start=st.datetimes(datetime.datetime(1980, 1, 1), datetime.datetime(2060, 1, 1)),
    names=st.lists(st.text("abcxyzé ßо-;,|\"'", min_size=1).map(str.strip), min_size=3, max_size=3, unique=True),
    rows=st.lists(st.tuples(NUMBERS, NUMBERS), min_size=26, max_size=40),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    end=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    is_told=st.booleans(),
)
def test_tables_of_any_format_are_read_back(
    tmp_path_factory, written, date_format, frequency, start, names, rows, encoding, end, quoting, is_told
):
    separator, decimal, thousands = written
    names = [f"n{number}{name}" for number, name in enumerate(names)]
    times = [start.replace(second=0, microsecond=0) + row * STEPS[frequency] for row in range(len(rows))]
    rows = [(1234567.5, 0.5), *rows[1:]]  # decides between the signs
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=separator, lineterminator=end, quoting=quoting)
    writer.writerow(names)
    for time, row in zip(times, rows, strict=True):
        writer.writerow([time.strftime(date_format), *(write_number(value, decimal, thousands) for value in row)])
    path = tmp_path_factory.getbasetemp() / "written.csv"
    path.write_bytes(text.getvalue().encode(encoding))

    told = dict(separator=separator, decimal=decimal, thousands=thousands, date_format=date_format, encoding=encoding)
    days_decide = any(time.day > 12 for time in times)
    if not days_decide:
        told = told if is_told else {"date_format": date_format}
    panel = read_table(path, TableForm(time_column=names[0], **(told if is_told or not days_decide else {})))
    np.testing.assert_array_equal(panel.series[0].target, rows)
    assert panel.targets == names[1:]
    expected = [np.datetime64(time, "ns") for time in times]
    assert panel.series[0].times.tolist() == np.array(expected).tolist()
    assert panel.form.frequency == frequency
    assert (panel.form.decimal, panel.form.thousands) == (decimal, thousands)
    if is_told:
        assert panel.notes == [f"targets: {', '.join(names[1:])}", f"frequency: {frequency}"]


@settings(max_examples=50, deadline=None)
@given(
    lengths=st.lists(st.integers(2, 6), min_size=1, max_size=5),
    seed=st.integers(0, 2**32 - 1),
)
def test_rows_of_series_may_be_mixed_in_any_way(tmp_path_factory, lengths, seed):
    generator = np.random.default_rng(seed)
    owners = generator.permutation(np.repeat(np.arange(len(lengths)), lengths))
    counts = np.zeros(len(lengths), dtype=int)
    lines = ["t,id,y,size"]
    for owner in owners:
        lines.append(f"{3 * counts[owner] + owner},s{owner},{counts[owner] + 10 * owner},{owner}")
        counts[owner] += 1
    path = tmp_path_factory.getbasetemp() / "mixed.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    form = TableForm(targets="y", time_column="t", series_column="id", static_columns="size")
    panel = read_table(path, form)
    assert [one.name for one in panel.series] == [f"s{owner}" for owner in range(len(lengths))]
    for owner, one in enumerate(panel.series):
        assert one.times.tolist() == [3 * row + owner for row in range(lengths[owner])]
        assert one.target[:, 0].tolist() == [row + 10 * owner for row in range(lengths[owner])]
        assert one.known.tolist() == [[owner]] * lengths[owner]
