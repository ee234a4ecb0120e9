"""Features say what holds after each character; units are credited with what holds where they were not chosen."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnlab.analysis.units import best_units, correlations, text_features

# Below each character: 1 where the feature holds.
SPANS = [
    ("inside double quotes", 'say "hi" to', "00001110000"),
    ("inside double quotes", 'x = """a "b" c"""', "00001111111111110"),
    ("inside double quotes", r'p("\"", 1)', "0011100000"),
    ("inside double quotes", '""', "10"),
    ("inside double quotes", '"', "1"),
    ("inside double quotes", '"never\n\nclosed', "11111100000000"),  # the paragraph's end ends it
    ("inside double quotes", '"over\nlines"', "111111111110"),
    ("inside double quotes", '# "no"\n', "0000000"),
    ("inside single quotes", "b = rb'c' + 'd'", "000000110000110"),
    ("inside single quotes", "don't 'don't' won't", "0000001111110000000"),
    ("inside single quotes", "'open\nend'", "0000000000"),
    ("inside single quotes", "'''a\n'b'''", "1111111110"),
    ("inside single quotes", "\"'a'\"", "00000"),
    ("inside a comment", "a # b\nc", "0011100"),
    ("inside a comment", "a = '#' # c", "00000000111"),
    ("bracket depth", "f(a[0], {})", "01122111210"),
    ("bracket depth", ")(()", "0121"),
    ("bracket depth", "(\na\n\n)", "111100"),  # a blank line closes all
    ("bracket depth", "(')' # )\n", "111111111"),
    ("position in the line", "ab\n c", "12012"),
    ("indentation of the line", "a b\n  c d\n", "0000122220"),
    ("indentation of the line", "\t a\n\n", "12200"),
    ("lines since a blank line", "a\nb\n\nc\n  \nd", "01120011100"),
    ("position in the word", "ab_1 é!c", "12340101"),
    ("capitals in a row", "ABc DÉ", "120012"),
]


@pytest.mark.parametrize(("name", "text", "expected"), SPANS)
def test_features(name, text, expected):
    values = text_features(text)[name]
    assert "".join(str(int(value)) for value in values) == expected


@given(text=st.text(st.sampled_from("ab'\"\\#\n()[] A"), max_size=80))
@settings(max_examples=100, deadline=None)
def test_features_are_finite_numbers_of_every_character(text):
    features = text_features(text)
    assert all(values.shape == (len(text),) and np.isfinite(values).all() for values in features.values())
    assert all(values.min() >= 0 for values in features.values() if len(text))
    spans = [features[name] for name in ("inside double quotes", "inside single quotes", "inside a comment")]
    assert (sum(spans) <= 1).all()


def test_correlations_are_those_of_numpy():
    generator = np.random.default_rng(0)
    features, activations = generator.standard_normal((3, 50)), generator.standard_normal((50, 4)).astype(np.float32)
    expected = np.corrcoef(features, activations.T)[:3, 3:]
    np.testing.assert_allclose(correlations(features, activations), expected, rtol=1e-9, atol=1e-12)
    activations[:, 2] = 0.1  # constant, and not exactly its own mean in floating point
    assert (correlations(features, activations)[:, 2] == 0).all()


def test_best_unit_of_each_feature():
    generator = np.random.default_rng(0)
    features = {"a": generator.standard_normal(200), "b": generator.standard_normal(200), "constant": np.ones(200)}
    units = generator.standard_normal((200, 6))
    units[:, 2] = -3 * features["a"] + 1
    units[:, 5] += 2 * features["b"]
    first, second = best_units(units, features)
    assert (first.feature, first.unit, first.correlation) == ("a", 2, pytest.approx(-1))
    assert (second.feature, second.unit) == ("b", 5)
    assert second.correlation == second.chosen_at == pytest.approx(np.corrcoef(features["b"], units[:, 5])[0, 1])


def test_a_lucky_unit_is_worth_nothing_on_text_it_was_not_chosen_on():
    generator = np.random.default_rng(0)
    feature = {name: (generator.random(300) < 0.5).astype(float) for name in ("chosen on", "held out")}
    noise = generator.standard_normal((2, 300, 2000))
    (match,) = best_units(noise[0], {"x": feature["chosen on"]}, (noise[1], {"x": feature["held out"]}))
    assert abs(match.chosen_at) > 0.15
    assert abs(match.correlation) < 0.12
    assert match.correlation == pytest.approx(np.corrcoef(feature["held out"], noise[1][:, match.unit])[0, 1])


def test_features_constant_in_either_passage_are_left_out():
    varied, constant = np.array([0.0, 1.0, 1.0]), np.ones(3)
    units = np.arange(6.0).reshape(3, 2)
    chosen_on, held_out = {"a": varied, "b": varied, "c": constant}, {"a": varied, "b": constant, "c": varied}
    assert [match.feature for match in best_units(units, chosen_on, (units, held_out))] == ["a"]
    assert best_units(units, {"c": constant}) == []


@pytest.mark.parametrize(
    ("features", "held_out"),
    [
        ({"a": np.ones(2)}, None),
        ({"a": np.ones(3)}, (np.ones((3, 5)), {"a": np.ones(3)})),
        ({"a": np.ones(3)}, (np.ones((3, 2)), {"b": np.ones(3)})),
    ],
)
def test_shapes_must_fit(features, held_out):
    with pytest.raises(ValueError, match=r"expected activations \(N, U\) and the same features"):
        best_units(np.ones((3, 2)), features, held_out)
