"""Forms with their UPOS and lemmas: shares by weight are those of all words, unseen ones are told."""

import pytest

from rnnlab.data import LemmaData
from rnnlab.data.lemmas import source_of
from tests.corpora import corpus


def conllu(*words):
    rows = (f"{number}\t{form}\t{lemma}\t{tag}" for number, (form, tag, lemma) in enumerate(words, start=1))
    return "".join(f"{row}{'	_' * 6}\n" for row in rows) + "\n"


TRAIN = conllu(("Dogs", "NOUN", "dog"), ("saw", "VERB", "see")) + conllu(
    *[("saw", "VERB", "see")] * 3, ("saw", "VERB", "saw"), ("saw", "NOUN", "saw"), ("goes", "_", "_")
)
VAL = conllu(
    ("saw", "VERB", "see"),
    ("saw", "VERB", "saw"),
    ("saw", "VERB", "see"),
    ("Rome", "PROPN", "Rome"),
    ("Cats", "NOUN", "cat"),
    ("IT", "NOUN", "it"),
)


@pytest.fixture
def make(tmp_path):
    def make_data(train=TRAIN, val=VAL, **arguments):
        for name, text in (("train", train), ("val", val)):
            (tmp_path / f"{name}.conllu").write_text(text)
        data = LemmaData(tmp_path / "train.conllu", tmp_path / "val.conllu", **arguments)
        data.setup()
        return data

    return make_data


def weights(data, part):
    return {(data.join_source(pair.source), data.join_target(*pair.targets)): pair.weight for pair in data.pairs[part]}


def test_words_are_counted_once_for_all_their_occurrences(make):
    data = make()
    assert data.pairs["train"][0].source == source_of("Dogs", "NOUN") == ("D", "o", "g", "s", "<NOUN>")
    assert weights(data, "val") == {
        ("saw VERB", "see"): 2,
        ("saw VERB", "saw"): 1,
        ("Rome PROPN", "Rome"): 1,
        ("Cats NOUN", "cat"): 1,
        ("IT NOUN", "it"): 1,
    }
    train = weights(data, "train")
    assert sum(train.values()) / len(train) == pytest.approx(1)
    assert train["saw VERB", "see"] == pytest.approx(2 * train["saw VERB", "saw"])  # 4 ** 0.5
    assert ("goes _", "_") in train
    assert set(weights(make(weight_power=0), "train").values()) == {1}
    batch = next(iter(data.val_dataloader()))
    texts = [data.source_text(ids) for ids in batch.source]
    unseen = {text for text, flag in zip(texts, batch.unseen.tolist(), strict=True) if flag}
    assert {"saw VERB"} == set(texts) - unseen


def test_the_most_frequent_lemma_is_scored_over_all_words(make):
    # right: saw/see twice, Rome, it; wrong: saw/saw, cats
    assert make().baselines() == {
        "baseline/most_frequent/val/exact_match": pytest.approx(4 / 6),
        "baseline/most_frequent/val/unseen_accuracy": pytest.approx(2 / 3),
    }


def test_known_results_on_a_treebank():
    corpus("ud-ewt/en_ewt-ud-train.conllu.gz")
    data = LemmaData("ud-ewt/en_ewt-ud-train.conllu")
    scores = data.baselines()
    assert scores["baseline/most_frequent/val/exact_match"] == pytest.approx(0.9724, abs=5e-5)
    assert scores["baseline/most_frequent/val/unseen_accuracy"] == pytest.approx(0.7411, abs=5e-5)
    rows = data.splits["val"][range(len(data.splits["val"]))]
    assert float((rows.weight * rows.unseen).sum() / rows.weight.sum()) == pytest.approx(0.0954, abs=5e-5)


def test_questions_are_forms_and_tags(make, tmp_path):
    data = make()
    path = tmp_path / "q.txt"
    path.write_text("dogs\tNOUN\nsaw\tVERB\n")
    queries = data.read_queries(path)
    (batch,) = data.query_batches(queries)
    assert [data.source_text(ids) for ids in batch.source] == ["saw VERB", "\ufffdogs NOUN"]  # no d in TRAIN
    for text, message in (
        ("dogs", r"q\.txt:1: expected a form, a tab and its UPOS, got 'dogs'"),
        ("dogs\tNOUN\ndogs\tNUON", r"q\.txt:2: the UPOS must be one of NOUN, VERB, _, got 'NUON'"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            data.read_queries(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weight_power": 2}, "weight_power must be from 0 to 1, got 2"),
        ({"val": VAL.replace("\tcat\t", "\t\t")}, r"val\.conllu:5: the lemma, column 3, is empty; none is '_'"),
        ({"val": conllu(("a", "DET", "_"))}, "the val part has no lemma but '_'"),
        ({"max_tokens": 0}, "max_tokens must be an integer of at least 1, got 0"),
    ],
)
def test_what_cannot_be_learnt_is_refused(make, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)


def test_without_a_validation_file_each_tenth_sentence_is_spared(tmp_path):
    path = tmp_path / "t.conllu"
    path.write_text("".join(conllu((f"w{number}", "NOUN", "w")) for number in range(20)))
    data = LemmaData(path)
    data.setup()
    assert {data.join_source(pair.source) for pair in data.pairs["val"]} == {"w9 NOUN", "w19 NOUN"}
    assert data.notes[0].startswith("val: no file is given, and it is 2 of the sentences of")
    again = LemmaData(path, path)
    again.load_state_dict(data.state_dict())
    again.setup()
    assert again.pairs["train"] == data.pairs["train"] and len(again.pairs["val"]) == 20
    whole, without = LemmaData(path, path), LemmaData(path)
    whole.setup()
    without.load_state_dict(whole.state_dict())
    with pytest.raises(ValueError, match="trained on all of its training file, and there is no val: give val=FILE"):
        without.setup()


def test_invented_words_are_for_training_alone(make):
    words = conllu(*[("talked", "VERB", "talk"), ("Dogs", "NOUN", "dog"), ("Berlin", "PROPN", "Berlin")] * 3)
    plain, data = make(words), make(words, invented=60)
    assert data.pairs == plain.pairs and data.state_dict() == plain.state_dict()
    assert data.baselines() == plain.baselines()
    invented = data.invented()
    assert len(data.splits["train"]) == 3 + len(invented) and len(data.splits["val"]) == len(plain.splits["val"])
    assert data.epoch_size == plain.epoch_size + sum(len(pair.targets[0]) + 1 for pair in invented)
    assert {pair.weight for pair in invented} == {min(pair.weight for pair in data.pairs["train"])}
    assert {pair.source[-1] for pair in invented} == {"<VERB>", "<PROPN>"}  # 'D' alone is no stem
    assert invented == make(words, invented=60).invented() != make(words, invented=60, seed=1).invented()
    with pytest.raises(ValueError, match="invented must be an integer of at least 0, got -1"):
        make(invented=-1)


def test_a_run_that_read_the_upos_first_is_refused(make):
    data = make()
    state = data.state_dict()
    again = make()
    again.load_state_dict(state)
    old = state | {"settings": {name: value for name, value in state["settings"].items() if name != "upos"}}
    for former in (old, {name: value for name, value in state.items() if name != "settings"}):
        with pytest.raises(ValueError, match="upos is 'before the form' in the run, and cannot be 'behind the form'"):
            again.load_state_dict(former)


def test_a_word_that_was_invented_alone_is_unseen(make):
    train = conllu(("aaaaa", "NOUN", "aaaaa"), ("bbbbb", "NOUN", "bbbbb"))
    data = make(train, conllu(("abaaa", "NOUN", "abaaa"), ("aaaaa", "NOUN", "aaaaa")), invented=200)
    assert ("a", "b", "a", "a", "a", "<NOUN>") in {pair.source for pair in data.invented()}
    batch = data.splits["val"][range(2)]
    unseen = {data.source_text(ids): flag for ids, flag in zip(batch.source, batch.unseen.tolist(), strict=True)}
    assert unseen == {"abaaa NOUN": True, "aaaaa NOUN": False}
