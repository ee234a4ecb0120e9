"""Records of a user's own: what is read, what is written, and what is refused, with the words it is refused in."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from rnnlab.data.physionet import annotation_file, header_file, read_beats
from rnnlab.data.records import answer_table, find_lead

wfdb = pytest.importorskip("wfdb")
# Its own, of pandas: what these tests call themselves.
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword", "ignore:.*:DeprecationWarning:wfdb")
RATE = 200


@pytest.fixture
def signals():
    """Two leads of 3 s in mV, in steps of 5 microvolts."""
    times = np.arange(3 * RATE) / RATE
    return np.round(np.stack([np.sin(7 * times), np.cos(3 * times)], axis=1) * 200) / 200


@pytest.fixture
def record(tmp_path, signals):
    wfdb.wrsamp(
        *("heart", RATE, ["mV", "mV"], ["II", "V5"]),
        p_signal=signals,
        fmt=["16", "16"],
        adc_gain=[200.0, 200.0],
        baseline=[0, 0],
        write_dir=str(tmp_path),
    )
    return tmp_path / "heart"


def whole(lead):
    return np.concatenate(list(lead.pieces()))


def table(path, signals, rate=RATE, header="time,II,V5", digits=4):
    rows = [f"{n / rate:.{digits}f},{a:g},{b:g}" for n, (a, b) in enumerate(signals)]
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


@pytest.mark.parametrize("suffix", ["", ".hea", ".dat"])
def test_a_record_of_physionet(record, signals, suffix):
    lead = find_lead(f"{record}{suffix}", None, None)
    assert lead.rate == RATE and lead.num_samples == 600 and lead.annotations is None and "lead II" in lead.name
    np.testing.assert_allclose(whole(lead), signals[:, 0], atol=1e-9)
    for name in ("V5", 1):
        np.testing.assert_allclose(whole(find_lead(record, name, None)), signals[:, 1], atol=1e-9)


@pytest.mark.parametrize("digits", [3, 4])
def test_a_record_in_csv(tmp_path, signals, digits):
    file = table(tmp_path / "heart.csv", signals, digits=digits)
    lead = find_lead(file, "V5", None)
    assert lead.rate == RATE and lead.num_samples == 600
    np.testing.assert_allclose(whole(lead), signals[:, 1])
    file.write_text("\n".join(["II", *map(str, signals[:, 0])]))
    lead = find_lead(file, None, 360.0)
    assert lead.rate == 360.0
    np.testing.assert_allclose(whole(lead), signals[:, 0])


@pytest.mark.parametrize(("size", "sizes"), [(7, [7] * 85 + [5]), (599, [599, 1]), (600, [600])])
def test_long_records_come_in_pieces(tmp_path, monkeypatch, record, signals, size, sizes):
    monkeypatch.setattr("rnnlab.data.physionet.PIECE", size)
    monkeypatch.setattr("rnnlab.data.record_tables._PIECE", size)
    for lead in (find_lead(record, 1, None), find_lead(table(tmp_path / "heart.csv", signals), 1, None)):
        assert [len(piece) for piece in lead.pieces()] == sizes
        np.testing.assert_allclose(whole(lead), signals[:, 1], atol=1e-9)


def edited(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def lines_of(rows):
    return "\n".join(["time,II,V5", *rows])


def test_what_is_wrong_with_a_record_is_told(tmp_path, record, signals):
    def refused(message, lead=None, path=record):
        with pytest.raises(ValueError, match=message):
            find_lead(path, lead, None)

    header, samples = record.with_suffix(".hea"), record.with_suffix(".dat")
    refused("no header of a record at .*gone.hea", path=tmp_path / "gone")
    refused("heart.hea: data.lead must be one of II, V5, or a number from 0 on, got 'V1'", lead="V1")
    for number in (2, -1, True):
        refused(f"got {number}$", lead=number)
    good, content = header.read_text(), samples.read_bytes()
    checksum = good.splitlines()[1].split()[6]
    edited(header, f" {checksum} ", f" {int(checksum) + 1} ")
    refused(f"the samples of lead II have the checksum {checksum}, not {int(checksum) + 1}")
    header.write_text(good.replace(f" {checksum} ", f" {int(checksum) - 256} "))
    refused(f"the samples of lead II have the checksum {checksum}, not {int(checksum) - 256}")
    header.write_text(good.replace(f" {checksum} ", f" {int(checksum) - 65_536} "))  # written as another number
    assert find_lead(record, None, None).num_samples == 600
    header.write_text(good)
    edited(header, f"heart 2 {RATE} 600", "heart 2")
    refused("heart.hea: does not say its sampling rate; data.record_rate=360 would")
    for rate in ("-5", "nan", "inf", "1e9", "abc", "1,5"):
        header.write_text(good.replace(f"heart 2 {RATE} 600", f"heart 2 {rate} 600"))
        refused(f"heart.hea: the sampling rate '{rate}' is no number above 0")
    for rate in ("0", "0.5", "100000"):
        header.write_text(good.replace(f"heart 2 {RATE} 600", f"heart 2 {rate} 600"))
        refused(f"{rate} samples a second, from 50 to 10000 can be read")
    for number in (1, 3):
        header.write_text(good.replace("heart 2", f"heart {number}"))
        refused(f"heart.hea: promises {number} leads, and describes 2")
    for old, new in ((f" {checksum} ", " x "), ("200.0(0)", "nan(0)")):
        header.write_text(good.replace(old, new, 1))
        refused("heart.hea: not all of the line 'heart.dat 16 .* II' can be read")
    header.write_text(f"heart 0 {RATE} 600\n")
    refused("heart.hea: describes no signal")
    header.write_text(good.replace(f"heart 2 {RATE} 600", f"heart 2 {RATE}"))
    refused("heart.hea: does not say how many samples there are")
    header.write_text(f"heart/2 2 {RATE} 600\nfirst 300\nsecond 300\n")
    refused("heart.hea: is the header of a record in segments, which has to be put together first")
    header.write_text("nothing of the kind\n")
    refused("heart.hea: is no header of a record")
    header.write_text("")
    refused("heart.hea: ")
    header.write_text(good)
    samples.write_bytes(content[:-100])
    refused("heart.hea: ")
    samples.unlink()
    refused("its signals are in heart.dat, which is not beside it")


@pytest.mark.parametrize("told", ["257.5", "128.33", "200.", "360/720(10)"])
def test_the_rate_of_a_header_is_kept_as_it_is(record, told):
    edited(record.with_suffix(".hea"), f"heart 2 {RATE}", f"heart 2 {told}")
    rate = float(told.split("/")[0])
    assert find_lead(record, None, None).rate == rate == find_lead(record, None, rate).rate
    with pytest.raises(ValueError, match=f"heart.hea: says {told.split('/')[0]} samples a second, data.record_rate 77"):
        find_lead(record, None, 77.0)


def write(folder, signals, name="other", **options):
    options = {"fmt": ["16"] * 2, "adc_gain": [200.0] * 2, "baseline": [0] * 2} | options
    wfdb.wrsamp(name, RATE, ["mV"] * 2, ["II", "V5"], p_signal=signals, write_dir=str(folder), **options)
    return folder / name


def test_a_line_is_flat_over_all_pieces_or_not_at_all(tmp_path, monkeypatch, signals):
    monkeypatch.setattr("rnnlab.data.record_tables._PIECE", 1)
    assert find_lead(table(tmp_path / "heart.csv", signals), None, None).num_samples == 600


def test_flat_lines_and_lost_values_are_told(tmp_path, signals):
    flat, lost = signals.copy(), signals.copy()
    flat[:, 0], lost[401, 0] = 0.5, np.nan
    with pytest.raises(ValueError, match="lead II: is a flat line, every sample is 0.5"):
        find_lead(write(tmp_path, flat, "flat"), None, None)
    with pytest.raises(ValueError, match=r"lead II: has no value at sample 401 \(2.005 s\)"):
        find_lead(write(tmp_path, lost, "lost"), None, None)
    assert find_lead(write(tmp_path, lost, "beside"), "V5", None).num_samples == 600
    with pytest.raises(ValueError, match="has 100 samples, less than a second"):
        find_lead(write(tmp_path, signals[:100], "short"), None, None)


def test_leads_of_unequal_length_are_told(tmp_path, record, signals):
    edited(record.with_suffix(".hea"), " 16 200", " 16x2 200")
    with pytest.raises(ValueError, match="leads of unequal length cannot be read together: .* are II 400, V5 200"):
        find_lead(record, None, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: [*rows[:5], "0.025,0.1", *rows[6:]], ":7: 2 values in 3 columns: leads of unequal length"),
        (lambda rows: [*rows[:5], "0.025,0.1,", *rows[6:]], ":7: 2 values in 3 columns: leads of unequal length"),
        (lambda rows: [*rows[:5], "0.025,nan,1", *rows[6:]], ":7, column 'II': expected a finite number, got 'nan'"),
        (lambda rows: [*rows[:5], "0.025,x,1", *rows[6:]], ":7, column 'II': expected a finite number, got 'x'"),
        (lambda rows: [*rows[:5], *rows[6:]], ":7: column 'time' goes up by 0.01, by 0.00500.* in the mean"),
        (lambda rows: [*rows[:5], "", *rows[5:]], ":7: blank line between rows"),
        (lambda rows: [*rows[:5], rows[4], *rows[6:]], ":7: the time 0.02 does not come after 0.02"),
        (lambda rows: [], "has 0 samples"),
        (lambda rows: [f"{row.split(',')[0]},2,1" for row in rows], "lead II: is a flat line, every sample is 2"),
    ],
)
def test_what_is_wrong_with_a_table_is_told(tmp_path, signals, change, message):
    file = table(tmp_path / "heart.csv", signals + 5)
    rows = file.read_text().splitlines()[1:]
    file.write_text(lines_of(change(rows)))
    with pytest.raises(ValueError, match=message):
        find_lead(file, None, None)


def clocked(path, times, header="time,II"):
    """A table of a sine, with a column of these times as they stand."""
    rows = [f"{time},{np.sin(n / 7):.4f}" for n, time in enumerate(times)]
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("digits", [3, 4, 9])
@pytest.mark.parametrize("rate", [50.0, 128.33, 257.0, 257.5, 360.2, 999.0])
def test_times_tell_any_rate_to_their_last_digit(tmp_path, rate, digits):
    times = (f"{n / rate:.{digits}f}" for n in range(3_000))
    assert find_lead(clocked(tmp_path / "heart.csv", times), None, None).rate == rate


@pytest.mark.parametrize("rate", [250.1, 251, 260, 125])
def test_a_clock_that_changes_its_pace_is_told(tmp_path, rate):
    seconds = np.concatenate([np.arange(3_000) / 250, 12 + np.arange(3_000) / rate])
    with pytest.raises(ValueError, match=r":(\d+): column 'time' is [0-9.]+ off even steps from its first") as refused:
        find_lead(clocked(tmp_path / "heart.csv", np.round(seconds, 6)), None, None)
    assert abs(int(str(refused.value).split(":")[1]) - 3_002) < 50  # the row of the change


@pytest.mark.parametrize(
    ("seconds", "line"),
    [
        (lambda even: np.delete(even, 5_990), 5_992),  # one lost sample near the end
        (lambda even: even + (even > 8), 2_003),
        (lambda even: even + 0.003 * (even > 8), 2_003),
    ],
)
def test_a_clock_that_jumps_is_told(tmp_path, seconds, line):
    times = np.round(seconds(np.arange(6_000) / 250), 6)
    with pytest.raises(ValueError, match=rf":{line}: column 'time' goes up by "):
        find_lead(clocked(tmp_path / "heart.csv", times), None, None)


def test_a_column_that_counts_is_no_clock(tmp_path):
    file = tmp_path / "heart.csv"
    for step, told in ((1, 250.0), (4, 250.0)):  # samples, milliseconds
        clocked(file, range(0, 600 * step, step))
        with pytest.raises(ValueError, match=f"'time' goes up by {step} from row to row, .*data.record_rate=250 would"):
            find_lead(file, None, None)
        assert find_lead(file, None, told).rate == told
    clocked(file, [*range(300), *range(301, 601)])
    with pytest.raises(ValueError, match=":302: column 'time' goes up by 2"):
        find_lead(file, None, 250.0)
    clocked(file, (n / 250 for n in range(600)))
    with pytest.raises(ValueError, match="column 'time' tells 250 samples a second, data.record_rate 360"):
        find_lead(file, None, 360.0)
    for header in ("sample,II", ",II", "zeit,II"):  # counters that nobody asked for as a lead
        with pytest.raises(ValueError, match="never falls, like a counter or a clock; data.lead=NAME is another lead"):
            find_lead(clocked(file, range(600), header), None, 250.0)


def test_seconds_that_do_not_start_at_nought_are_said_to_be_counted_from_there(tmp_path):
    lead = find_lead(clocked(tmp_path / "heart.csv", (f"{12.5 + n / 250:.3f}" for n in range(600))), None, None)
    (note,) = lead.notes
    assert lead.rate == 250 and "counted from the first row, where 'time' is 12.5" in note


def test_a_table_needs_names_of_columns(tmp_path):
    with pytest.raises(ValueError, match=":1: names of columns are needed in the first row, which has numbers alone"):
        find_lead(clocked(tmp_path / "heart.csv", range(600), "0.1,0.2"), None, 250.0)


@pytest.mark.parametrize("encoding", ["utf-8", "UTF8", "utf-8-sig"])
def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path, encoding):
    file = tmp_path / "heart.csv"
    clocked(file, (n / 250 for n in range(600)))
    file.write_text(file.read_text(), encoding="utf-8-sig")
    assert find_lead(file, "II", None, encoding).rate == 250


def test_a_table_that_does_not_say_its_rate(tmp_path, signals):
    file = table(tmp_path / "heart.csv", signals, header="n,II,V5")
    with pytest.raises(ValueError, match="the sampling rate is not known, .*; data.record_rate=250 would say it"):
        find_lead(file, "II", None)
    file.write_bytes("time,Ü\n0,1\n".encode("latin-1"))
    with pytest.raises(ValueError, match="heart.csv: is not utf-8"):
        find_lead(file, None, None)
    file.write_text("")
    with pytest.raises(ValueError, match="heart.csv: is empty"):
        find_lead(file, None, None)
    file.write_text("time\n0\n1\n")
    with pytest.raises(ValueError, match="has no lead beside 'time'"):
        find_lead(file, None, None)


POINTS = np.array([[0.5, 0.48, 0.53, 0.46, 0.55], [1.5, 1.47, 1.56, 1.44, 1.58]])


def test_annotations_that_were_written_are_read(record):
    record.with_suffix(".atr").write_bytes(annotation_file(POINTS, np.array([False, True]), RATE))
    times, codes = read_beats(record)
    np.testing.assert_allclose(times, [0.5, 1.5])
    assert codes == ["N", "N"] and find_lead(record, None, None).annotations == record.with_suffix(".atr")
    read = wfdb.rdann(str(record), "atr")
    assert read.fs == RATE and read.symbol == ["(", "N", ")"] * 2
    assert read.sample.tolist() == [92, 100, 110, 288, 300, 316]
    assert [note.strip("\0") for note in read.aux_note] == ["", "", "", "", "wide 140 ms", ""]
    between = annotation_file(POINTS[:1] + 0.003, np.array([False]), RATE)  # 0.6 samples later: the next ones
    record.with_suffix(".atr").write_bytes(between)
    assert wfdb.rdann(str(record), "atr").sample.tolist() == [93, 101, 111]
    early = annotation_file(POINTS[:1] - 0.47, np.array([False]), RATE)  # QRS begins before the record does
    record.with_suffix(".atr").write_bytes(early)
    assert wfdb.rdann(str(record), "atr").sample.tolist() == [0, 6, 16]
    none = annotation_file(POINTS[:0], np.array([], dtype=bool), RATE)
    assert none == bytes(2)  # the end, as the format has it
    record.with_suffix(".atr").write_bytes(none)
    assert not len(read_beats(record)[0])


def test_annotations_are_read_by_their_own_clock_or_by_the_rate_that_is_given(record):
    header, file = record.with_suffix(".hea"), record.with_suffix(".atr")
    edited(header, f"heart 2 {RATE} 600", "heart 2")
    wfdb.wrann("heart", "atr", np.array([100, 300]), ["N", "N"], write_dir=str(record.parent))  # without a clock
    np.testing.assert_allclose(read_beats(record, 100.0)[0], [1.0, 3.0])
    with pytest.raises(ValueError, match="does not say its sampling rate"):
        read_beats(record)
    file.write_bytes(annotation_file(POINTS, np.array([False, True]), 257.5))
    np.testing.assert_allclose(read_beats(record)[0], [0.5, 1.5], atol=0.5 / 257.5)


def test_the_table_of_answers():
    assert answer_table(POINTS, [False, True]).splitlines() == [
        "r_s,q_s,s_s,qrs_on_s,qrs_off_s,qrs_ms,wide",
        "0.5000,0.4800,0.5300,0.4600,0.5500,90.0,0",
        "1.5000,1.4700,1.5600,1.4400,1.5800,140.0,1",
    ]


def mitbih():
    file = Path(os.environ.get("RNNLAB_DATA", "")) / "mitbih" / "100.hea"
    if not file.is_file():
        pytest.skip(f"{file}: record 100 of MIT-BIH is not there")
    return file


def test_record_100_as_it_is_described(tmp_path):
    lead = find_lead(mitbih(), "V5", None)
    signal = whole(lead)
    assert lead.rate == 360 and len(signal) == lead.num_samples == 650_000
    assert signal[0] == pytest.approx((1011 - 1024) / 200)
    times, codes = read_beats("mitbih/100")
    assert len(times) == 2_273 and {code: codes.count(code) for code in set(codes)} == {"N": 2239, "A": 33, "V": 1}
    assert times[0] * 360 == pytest.approx(77) and times[-1] * 360 == pytest.approx(649_991)
    for suffix in (".hea", ".dat"):
        shutil.copy(mitbih().with_suffix(suffix), tmp_path)
    samples = (tmp_path / "100.dat").read_bytes()
    (tmp_path / "100.dat").write_bytes(bytes([samples[0] ^ 1]) + samples[1:])
    with pytest.raises(ValueError, match="the samples of lead MLII have the checksum -2213[02], not -22131"):
        find_lead(tmp_path / "100", None, None)
    with pytest.raises(ValueError, match="annotations"):
        read_beats(tmp_path / "100")
    assert header_file(tmp_path / "100.dat") == tmp_path / "100.hea"
