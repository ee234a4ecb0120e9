"""Error rates of texts: whose edits are over what, for each part by itself."""

import math

import pytest

from rnnlab.tasks.rates import ErrorRates


class Letters:
    """Numbers of symbols as text: 1 is 'a', 2 is 'bc', 3 is a space."""

    @staticmethod
    def text(ids):
        return "".join({1: "a", 2: "bc", 3: " "}[number] for number in ids)


ANSWERS, TRUTHS = [[1, 3, 2], [2]], [[1, 3, 1, 2], [2, 3, 1]]  # "a bc" and "bc"; "a abc" and "bc a"
# One character is missing and two; over words, one is wrong and one is missing; over symbols, one is missing and two.
EXPECTED = {"cer": 3 / 9, "wer": 2 / 4, "ler": 3 / 7}


@pytest.mark.parametrize("names", [("cer", "wer"), ("ler",), (), ("cer", "wer", "ler")])
def test_rates_are_edits_over_what_was_right(names):
    rates = ErrorRates()
    rates.update("val", Letters, ANSWERS[:1], TRUTHS[:1])
    rates.update("val", Letters, ANSWERS[1:], TRUTHS[1:])
    found = rates.report("val", names, has_diverged=False)
    assert found.keys() == {"cer", *names}
    assert {name: float(value) for name, value in found.items()} == pytest.approx(
        {name: EXPECTED[name] for name in found}
    )


def test_parts_are_apart_and_begin_anew():
    rates, all_names = ErrorRates(), ("cer", "wer", "ler")
    rates.update("val", Letters, ANSWERS, TRUTHS)
    rates.update("test", Letters, TRUTHS, TRUTHS)
    assert not any(rates.report("test", all_names, has_diverged=False).values())
    rates.report("val", ("cer",), has_diverged=False)  # those that are not asked for begin anew, too
    rates.update("val", Letters, TRUTHS, TRUTHS)
    assert not any(rates.report("val", all_names, has_diverged=False).values())


def test_a_model_that_diverged_has_none_and_begins_anew():
    rates = ErrorRates()
    rates.update("val", Letters, ANSWERS, TRUTHS)
    assert all(math.isnan(value) for value in rates.report("val", ("wer", "ler"), has_diverged=True).values())
    rates.update("val", Letters, TRUTHS, TRUTHS)
    assert not any(rates.report("val", ("wer", "ler"), has_diverged=False).values())
