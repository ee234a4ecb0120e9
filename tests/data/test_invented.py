"""Made-up words: other letters in the stem, the rest as it was."""

import pytest

from rnnlab.data.invented import invent_words


def the_only_kind(form, lemma, number=200):
    return [(new, kept) for _, new, kept in invent_words([(form, lemma)], number, seed=0)]


@pytest.mark.parametrize(
    "form, lemma, head",
    [
        ("walking", "walk", 2),  # two letters before the change stay
        ("Berlin", "Berlin", 3),  # and three at the end
        ("cities", "city", 1),
        ("SHOUTED", "shout", 3),
        ("2019-11", "2019-11", 4),
    ],
)
def test_the_end_stays_and_so_does_what_form_and_lemma_share(form, lemma, head):
    if head < 2:
        assert the_only_kind(form, lemma) == []
        return
    words = the_only_kind(form, lemma)
    assert len(words) == 200 and len(set(words)) > 20
    for new, kept in words:
        assert new[head:] == form[head:] and kept[head:] == lemma[head:]
        assert new[:head].lower() == kept[:head].lower()
        assert new[:head].isupper() == form[:head].isupper() and kept[:head].islower() == lemma[:head].islower()
        assert all(letter.isdecimal() == old.isdecimal() for letter, old in zip(new, form, strict=True))


def test_letters_are_drawn_as_often_as_the_words_have_them():
    words = [("aaab---", "aaab---")]
    drawn = "".join(form[:4] for _, form, _ in invent_words(words, 2_000, seed=1))
    assert set(drawn) == {"a", "b"} and drawn.count("a") / len(drawn) == pytest.approx(0.75, abs=0.02)


def test_words_are_drawn_alike_and_by_the_seed():
    words = [("walking", "walk"), ("Berlin", "Berlin")]
    drawn = invent_words(words, 1_000, seed=3)
    assert sum(index == 0 for index, _, _ in drawn) == pytest.approx(500, abs=60)
    assert drawn == invent_words(words, 1_000, seed=3) != invent_words(words, 1_000, seed=4)
    assert invent_words(words, 0, seed=0) == []


def test_signs_and_letters_without_case_stay_as_they_are():
    assert set(the_only_kind("....---", "....---")) == {("....---", "....---")}
    assert the_only_kind("東京都内の", "東京都内の", 20)  # no upper case to look for
