"""Data of the tagger: vocabularies of training alone, batches that are resumed, answers that change the tags only."""

import gzip
import hashlib
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch
from torch import nn

from rnnlab.data import GeneratedTaggerData, TaggerData
from rnnlab.data.conllu_text import parse_sentences, read_sentences
from rnnlab.data.sentences import IGNORED, UNKNOWN_TAG, TaggedBatch
from rnnlab.data.vocabulary import PADDING, UNKNOWN
from tests.tasks.helpers import quiet_trainer

TRAIN = """\
# sent_id = 1
1	The	the	DET	DT	_	_	_	_	_
2	dogs	dog	NOUN	NNS	Number=Plur	_	_	_	_
3	run	run	VERB	VBP	Number=Plur	_	_	_	_

1-2	Don't	_	_	_	_	_	_	_	_
1	Do	do	AUX	VB	_	_	_	_	_
2	n't	not	PART	RB	_	_	_	_	SpaceAfter=No
3	run	run	VERB	VB	_	_	_	_	_

1	The	the	DET	DT	_	_	_	_	_
2	dog	dog	NOUN	NN	Number=Sing	_	_	_	_
2.1	that	that	PRON	WDT	_	_	_	_	_
3	ate	eat	_	VBD	_	_	_	_	_
"""
VAL = """\
1	Oh	oh	INTJ	UH	_	_	_	_	_
2	the	the	DET	DT	_	_	_	_	_
3	dogs	dog	NOUN	NNS	Number=Plur	_	_	_	_
"""


@pytest.fixture
def write(tmp_path):
    def write_text(name, text):
        content = text.encode()
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return tmp_path / name

    return write_text


@pytest.fixture
def make(write):
    def make_data(train=TRAIN, val=VAL, **arguments):
        return TaggerData(write("train.conllu", train), write("val.conllu", val), **arguments)

    return make_data


def made(data):
    data.setup()
    return data


def texts(data, batch):
    """Return (word, tag) of each token, sentence by sentence, read back from numbers."""
    return [
        [
            (data.words.symbols[word], data.tags.symbols[tag] if tag >= 0 else {IGNORED: None, UNKNOWN_TAG: "?"}[tag])
            for word, tag in zip(words[:length], tags[:length], strict=True)
        ]
        for words, tags, length in zip(batch.words.tolist(), batch.tags.tolist(), batch.lengths.tolist(), strict=True)
    ]


def test_words_and_tags_are_those_of_training(make):
    data = made(make())
    assert data.words.symbols == (PADDING, UNKNOWN, "Do", "The", "ate", "dog", "dogs", "n't", "run")
    assert data.chars.symbols == (PADDING, UNKNOWN, *sorted(set("DoTheatedogsn'trun")))
    assert data.tags.symbols == ("AUX", "DET", "NOUN", "PART", "VERB")
    assert data.notes == ["val: 1 of 3 words have a tag that training lacks (INTJ); each counts as wrong"]
    assert data.sizes == {"num_words": 9, "num_chars": len(data.chars), "num_tags": 5, "vectors": None}
    assert data.epoch_size == 9 and {part: len(split) for part, split in data.splits.items()} == {"train": 3, "val": 1}
    assert data.sentences["train"] == read_sentences(data.paths["train"], "upos")
    (batch,) = data.val_dataloader()
    assert texts(data, batch) == [[(UNKNOWN, "?"), (UNKNOWN, "DET"), ("dogs", "NOUN")]]
    assert batch.unseen.tolist() == [[True, True, False]]
    (batch,) = data.train_dataloader()
    assert sum((batch.tags == IGNORED).sum(1)) == 1 and not batch.unseen.any()


def test_columns_and_options_are_passed_on(make):
    assert made(make(column="xpos")).tags.symbols == ("DT", "NN", "NNS", "RB", "VB", "VBD", "VBP")
    data = made(make(column="feats.Number", lowercase=True, min_count=2, max_chars=2))
    assert data.tags.symbols == ("Plur", "Sing", "_")
    assert data.words.symbols == (PADDING, UNKNOWN, "run", "the")
    assert data.rehearsal_batch().chars.shape[1] == 2


def test_a_test_part_may_be_given_and_files_packed(make, write):
    path = write("test.conllu.gz", TRAIN)
    data = made(make(test=path))
    assert sum(len(batch.lengths) for batch in data.test_dataloader()) == 3
    assert data.test_dataloader().sampler.shuffle is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"column": "lemma"}, "column must be upos, xpos or a feature"),
        ({"min_count": 0}, "min_count must be an integer of at least 1, got 0"),
        ({"max_chars": 0}, "max_chars must be an integer of at least 1, got 0"),
        ({"max_tokens": 0}, "max_tokens must be an integer of at least 1, got 0"),
        ({"eval_max_tokens": 1.5}, "eval_max_tokens must be an integer of at least 1, got 1.5"),
        ({"seed": -1}, "seed must be an integer of at least 0, got -1"),
        ({"column": "feats.Numbr"}, "the train part has no tag but '_' as feats.Numbr"),
        ({"train": TRAIN.replace("3\trun", "4\trun")}, r"train\.conllu:4: ids count up"),
        ({"val": VAL.replace("INTJ", "_").replace("DET", "_").replace("NOUN", "_")}, "the val part has no tag as upos"),
        ({"vectors": "absent.txt"}, "no file of word vectors at absent.txt"),
    ],
)
def test_what_cannot_be_learnt_is_refused(make, arguments, message):
    with pytest.raises(ValueError, match=message):
        made(make(**arguments))


def test_vectors_are_those_of_known_words(make, write):
    data = made(make(vectors=write("v.txt", "run 1 2\nthe 3 4\nOh 5 6\n")))
    expected = torch.zeros(9, 2)
    expected[data.words["run"]], expected[data.words["The"]] = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert torch.equal(data.sizes["vectors"], expected) and data.num_vectors == 2


def test_a_trained_model_needs_no_corpus(make, write, tmp_path):
    vectors = write("v.txt", "run 1 2\n")
    trained = made(make(vectors=vectors, min_count=2))
    torch.save(trained.state_dict(), tmp_path / "state.pt")
    assert trained.state_dict()["sha256"] == hashlib.sha256(TRAIN.encode()).hexdigest()
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    absent = TaggerData("absent.conllu", "absent.conllu", vectors=vectors, min_count=2)
    for _ in range(2):  # the command line does it twice
        absent.load_state_dict(state)
        for name in ("words", "chars", "tags"):
            assert getattr(absent, name).symbols == getattr(trained, name).symbols
        sizes, expected = absent.sizes, trained.sizes
        assert sizes["vectors"].shape == expected["vectors"].shape
        assert {**sizes, "vectors": None} == {**expected, "vectors": None}
    path = write("questions.conllu", TRAIN + "\n" + VAL)
    for found, wanted in zip(*(data.query_batches(data.read_queries(path)) for data in (absent, trained)), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    former = trained.sizes["vectors"].clone()
    trained.load_state_dict(state)
    assert torch.equal(trained.sizes["vectors"], former)


def test_another_training_part_is_refused_and_other_validation_taken(make):
    state = made(make()).state_dict()
    other = make(train=TRAIN.replace("dogs", "cats"))
    for data in (made(other), other):
        with pytest.raises(ValueError, match="the training part is not the one this run was trained on"):
            data.load_state_dict(state)
    unread = make(train=TRAIN.replace("dogs", "cats"))
    unread.load_state_dict(state)
    with pytest.raises(ValueError, match="the training part is not the one this run was trained on"):
        unread.setup()


def test_tags_of_other_files_are_those_of_the_run(make, write):
    state = made(make()).state_dict()
    state["tags"] = [*state["tags"], "INTJ"]  # as runs had them that knew those of validation too
    data = made(make())
    data.load_state_dict(state)
    assert data.sizes["num_tags"] == 6 and data.notes == []
    data = make(test=write("test.conllu", VAL.replace("INTJ", "X").replace("DET", "Y")))
    data.load_state_dict(state)
    data.setup()
    assert data.notes == ["test: 2 of 3 words have a tag that training lacks (X, Y); each counts as wrong"]
    (batch,) = data.test_dataloader()
    assert batch.tags.tolist() == [[UNKNOWN_TAG, UNKNOWN_TAG, 2]]


@pytest.mark.parametrize("part", ["val", "test"])
@pytest.mark.parametrize(
    ("tags", "message"),
    [("___", "part has no tag as upos$"), ("ABB", "no tag but 'A', 'B' as upos, and training has AUX, DET, NOUN, ")],
)
@pytest.mark.parametrize("is_trained", [False, True])
def test_a_part_without_a_tag_that_can_be_right_is_refused(make, write, part, tags, message, is_trained):
    text = VAL
    for former, tag in zip(["INTJ", "DET", "NOUN"], tags, strict=True):
        text = text.replace(former, tag)
    state = made(make()).state_dict()
    data = make(val=text) if part == "val" else make(test=write("test.conllu", text))
    if is_trained:
        data.load_state_dict(state)
    with pytest.raises(ValueError, match=message) as error:
        data.setup()
    assert f"the {part} part has" in str(error.value)


def test_without_a_validation_file_each_tenth_sentence_is_spared(write):
    sentences = (TRAIN.rstrip().split("\n\n") * 7)[:20]
    path = write("train.conllu", "\n\n".join(sentences))
    data = made(TaggerData(path))
    every = read_sentences(path, "upos")
    assert data.sentences == {"train": every[:9] + every[10:19], "val": [every[9], every[19]]}
    assert data.notes == [
        f"val: no file is given, and it is 2 of the sentences of {path}, each tenth; the other 18 are train"
    ]
    # Whoever measures it on another file compares it with what learnt from the same sentences.
    other = TaggerData(path, write("val.conllu", VAL))
    other.load_state_dict(data.state_dict())
    other.setup()
    assert other.sentences["train"] == data.sentences["train"] and len(other.sentences["val"]) == 1
    assert other.state_dict()["counts"] == data.state_dict()["counts"]
    with pytest.raises(
        ValueError, match=r"each tenth sentence of .*train\.conllu is validation, and it has 3: give val"
    ):
        made(TaggerData(write("train.conllu", TRAIN)))
    whole = TaggerData(path)
    whole.load_state_dict(made(TaggerData(path, write("val.conllu", VAL))).state_dict())
    with pytest.raises(ValueError, match="trained on all of its training file, and there is no val: give val=FILE"):
        whole.setup()


def test_a_known_corpus_is_validated_on_its_own_dev_file():
    data = TaggerData("ud-lines/en_lines-ud-train.conllu")
    assert data.paths == {
        part: f"ud-lines/en_lines-ud-{part if part == 'train' else 'dev'}.conllu" for part in ("train", "val")
    }
    assert "val" not in TaggerData("my-train.conllu").paths


@pytest.mark.parametrize("name", ["q.conllu", "q.conllu.gz"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("column", ["upos", "xpos", "feats.Number"])
def test_answers_fill_the_column_and_change_no_other_byte(make, write, name, newline, column):
    data = made(make(train=TRAIN + "\n" + VAL, column=column, eval_max_tokens=3))
    text = ("\ufeff" + TRAIN + "\n" + VAL).replace("3\tate\teat\t_", "3\tate\teat\tVERB").replace("\n", newline)
    queries = data.read_queries(write(name, text))
    batches = data.query_batches(queries)
    assert len(queries.inputs) == 4 and len(batches) > 1
    assert all((batch.tags == IGNORED).all() for batch in batches)
    _, _, indices = queries.context
    gold = [sentence.tags for sentence in parse_sentences(text, "q", column)]
    outputs = []
    for rows, batch in zip(indices, batches, strict=True):
        output = torch.zeros_like(batch.words)
        for i, index in enumerate(rows):
            output[i, : len(gold[index])] = torch.tensor(data.tags.encode(gold[index]))
        outputs.append(output)
    assert data.write_answers(queries, outputs) == text
    first = data.tags.symbols[0]
    changed = data.write_answers(queries, [torch.zeros_like(batch.words) for batch in batches])
    assert {tag for sentence in parse_sentences(changed, "q", column) for tag in sentence.tags} == {first}
    index = {"upos": 3, "xpos": 4, "feats.Number": 5}[column]
    for before, after in zip(text.split("\n"), changed.split("\n"), strict=True):
        before, after = before.split("\t"), after.split("\t")
        is_word = before[0].lstrip("\ufeff").isdigit()
        assert before[:index] == after[:index] and before[index + 1 :] == after[index + 1 :]
        assert is_word or before == after


def test_plain_text_is_answered_as_conllu(make, write):
    data = made(make())
    queries = data.read_queries(write("q.txt", "The dog ran\n\nrun !\n"))
    batches = data.query_batches(queries)
    assert [batch.lengths.tolist() for batch in batches] == [[2, 3]]
    tags = torch.tensor([data.tags.encode(["VERB", "PART", "AUX"]), data.tags.encode(["DET", "NOUN", "VERB"])])
    assert data.write_answers(queries, [tags]) == (
        "# text = The dog ran\n1\tThe\t_\tDET\t_\t_\t_\t_\t_\t_\n2\tdog\t_\tNOUN\t_\t_\t_\t_\t_\t_\n"
        "3\tran\t_\tVERB\t_\t_\t_\t_\t_\t_\n\n# text = run !\n1\trun\t_\tVERB\t_\t_\t_\t_\t_\t_\n"
        "2\t!\t_\tPART\t_\t_\t_\t_\t_\t_\n\n"
    )


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("q.txt", " \n\n", r"q\.txt: is empty, a sentence a line is expected"),
        ("q.conllu", "\n", r"q\.conllu: holds no sentence"),
        ("q.conllu", TRAIN.replace("2\tdog\t", "2\t\t"), r"q\.conllu:12: the form, column 2, is empty"),
    ],
)
def test_broken_questions_are_refused(make, write, name, text, message):
    with pytest.raises(ValueError, match=message):
        made(make()).read_queries(write(name, text))


def generated(**arguments):
    return GeneratedTaggerData(**{"num_train": 200, "num_val": 60, "num_test": 60, "max_tokens": 150, **arguments})


def test_the_generated_corpus_is_a_function_of_its_seed():
    first, again, other = (made(generated(corpus_seed=corpus_seed, seed=3)) for corpus_seed in (0, 0, 1))
    assert first.sentences == again.sentences and first.state_dict() == again.state_dict()
    assert first.sentences != other.sentences
    assert {part: len(sentences) for part, sentences in first.sentences.items()} == {
        "train": 200,
        "val": 60,
        "test": 60,
    }
    with pytest.raises(ValueError, match="num_test must be an integer of at least 1, got 0"):
        generated(num_test=0)
    with pytest.raises(ValueError, match="the training part is not the one"):
        first.load_state_dict(other.state_dict())


@pytest.mark.slow
def test_the_generated_corpus_knows_its_optimum():
    found = GeneratedTaggerData().baselines()
    for name in ("val/accuracy", "val/expected_accuracy", "test/accuracy", "test/expected_accuracy"):
        assert 0.935 < found[f"optimum/{name}"] < 0.95
    assert abs(found["optimum/val/accuracy"] - found["optimum/val/expected_accuracy"]) < 0.006


def test_every_sentence_is_read_once_an_epoch_in_batches_of_their_size():
    data = made(generated())
    loader = data.train_dataloader()
    orders = []
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        batches = list(loader)
        assert len(batches) == len(loader) and max(batch.words.numel() for batch in batches) <= 150
        orders.append([row for batch in batches for row in texts(data, batch)])
    expected = [list(zip(s.forms, s.tags, strict=True)) for s in data.sentences["train"]]
    assert orders[0] != orders[1] and sorted(orders[0]) == sorted(orders[1]) == sorted(expected)
    lengths = torch.cat([batch.lengths for batch in data.val_dataloader()])
    assert len(lengths) == 60 and torch.equal(lengths, lengths.sort().values)


def test_the_ranks_of_a_trainer_share_the_sentences():
    data = made(generated())
    rows = []
    for rank in range(2):
        data.trainer = SimpleNamespace(world_size=2, global_rank=rank, overfit_batches=0)
        rows.append([row for batch in data.train_dataloader() for row in texts(data, batch)])
    assert sorted(rows[0] + rows[1]) == sorted(list(zip(s.forms, s.tags, strict=True)) for s in data.sentences["train"])


class Recorder(pl.LightningModule):
    """Trains one number, remembers what it saw, and leaves a checkpoint in the middle of an epoch."""

    def __init__(self, path=None):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen, self.path = [], path

    def training_step(self, batch, batch_index):
        assert isinstance(batch, TaggedBatch)
        self.seen.append((self.current_epoch, batch_index, batch.words.tolist()))
        return (self.weight - batch.words.float().mean()).square()

    def validation_step(self, batch, batch_index):
        assert isinstance(batch, TaggedBatch)

    def on_train_batch_end(self, outputs, batch, batch_index):
        if self.path is not None and (self.current_epoch, batch_index) == (1, 4):
            self.trainer.save_checkpoint(self.path)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.001)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")  # on purpose: the data are in memory
def test_a_run_is_resumed_in_the_middle_of_an_epoch(tmp_path):
    whole, resumed = Recorder(tmp_path / "a.ckpt"), Recorder()
    quiet_trainer(tmp_path, max_epochs=3).fit(whole, datamodule=generated())
    quiet_trainer(tmp_path, max_epochs=3).fit(
        resumed, datamodule=generated(), ckpt_path=tmp_path / "a.ckpt", weights_only=True
    )
    assert resumed.seen == [entry for entry in whole.seen if entry[:2] > (1, 4)]
    assert len(resumed.seen) > 15 and torch.equal(resumed.weight, whole.weight)
