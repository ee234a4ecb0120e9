"""Dates as people write them: never readable as two days, never a test day in training."""

import datetime

import pytest

from rnnlab.data import DateData
from rnnlab.data.dates import FORMATS, fields, is_ambiguous

SMALL = {"num_train": 300, "num_val": 60, "num_test": 60}


def made(**arguments):
    data = DateData(**{**SMALL, **arguments})
    data.setup()
    return data


def rows(data, part):
    return [(data.join_source(pair.source), data.join_target(pair.targets[0])) for pair in data.pairs[part]]


def days(first, last):
    first = datetime.date.fromisoformat(first)
    return [first + datetime.timedelta(days=n) for n in range((datetime.date.fromisoformat(last) - first).days + 1)]


def test_formats_say_what_they_should():
    assert len(FORMATS) >= 20 and len(set(FORMATS)) == len(FORMATS)
    written = {form: form.format_map(fields(datetime.date(2019, 5, 3))) for form in FORMATS}
    assert written["{nth} of {month} {Y}"] == "3rd of May 2019"
    assert written["{wd} {M}/{D}/{y}"] == "Fri 05/03/19"
    assert written["{d}.{roman}.{Y}"] == "3.V.2019"
    assert written["{mon} {d} '{y}"] == "May 3 '19"
    assert written["the {third} of {month} {Y}"] == "the third of May 2019"
    endings = [fields(datetime.date(2019, 5, day))["nth"] for day in (1, 2, 3, 4, 11, 12, 13, 21, 22, 23, 30, 31)]
    assert endings == "1st 2nd 3rd 4th 11th 12th 13th 21st 22nd 23rd 30th 31st".split()
    names = [fields(datetime.date(2019, 5, day))["third"] for day in (1, 19, 20, 21, 29, 30, 31)]
    assert names == "first nineteenth twentieth twenty-first twenty-ninth thirtieth thirty-first".split()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5/3/2019", True),
        ("Tue 05/03/19", True),
        ("Tue 05/13/19", False),
        ("5/5/2019", False),
        ("3.5.2019", False),  # nobody puts a month first before a dot
        ("03-05-2019", True),
        ("2019-05-03", False),
        ("29/02/2019", False),
        ("3rd of May 2019", False),
    ],
)
def test_what_can_be_read_as_two_days_is_told(text, expected):
    assert is_ambiguous(text, 1950) is expected


def test_no_text_that_is_used_stands_for_two_days():
    """Over two spans of years that share their last two digits with days and months, in every case."""
    seen = {}
    for day in days("2001-01-01", "2002-12-31") + days("2012-01-01", "2012-12-31") + days("1952-01-01", "1952-12-31"):
        for form in FORMATS:
            text = form.format_map(fields(day))
            if not is_ambiguous(text, 1950):
                for written in (text, text.lower(), text.upper()):
                    assert seen.setdefault(written, day) == day


def test_parts_have_different_days_and_every_format():
    data = made(num_train=2_000)
    texts = {part: [text for text, _ in rows(data, part)] for part in data.pairs}
    answers = {part: {iso for _, iso in rows(data, part)} for part in data.pairs}
    assert {part: len(set(texts[part])) for part in texts} == {"train": 2_000, "val": 60, "test": 60}
    assert not answers["train"] & answers["val"] and not answers["train"] & answers["test"]
    assert not answers["val"] & answers["test"]
    assert all("1950-01-01" <= iso <= "2049-12-31" for part in answers.values() for iso in part)
    written = {
        form.format_map(fields(datetime.date.fromisoformat(iso))).lower()
        for _, iso in rows(data, "train")
        for form in FORMATS
    }
    assert {text.lower() for text in texts["train"]} <= written
    sizes = {"source_size": len(data.source_symbols), "target_size": 4 + 11, "shared_vocabulary": False}
    assert data.notes == [] and data.sizes == sizes


def test_dates_are_a_function_of_the_corpus_seed_and_years_are_chosen():
    assert made(seed=1).pairs == made(seed=2).pairs != made(corpus_seed=1).pairs
    data = made(first_year=1800, last_year=1899)
    assert all("1800" <= iso < "1900" for _, iso in rows(data, "train"))


def test_copying_is_right_where_a_date_is_in_iso_form():
    data = made(num_test=1_500)
    share = sum(text == iso for text, iso in rows(data, "test")) / 1_500
    assert data.baselines()["baseline/copy/test/exact_match"] == pytest.approx(share)
    assert 0.01 < share < 0.06


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_test": 0}, "num_test must be an integer of at least 1, got 0"),
        ({"last_year": 2050}, "last_year must be an integer from 1950 to 2049, got 2050"),
        ({"last_year": 1951, "num_test": 90_000}, r"num_test must be at most \d+, the dates of test from 1950 to 1951"),
    ],
)
def test_what_cannot_be_drawn_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        made(**arguments)
