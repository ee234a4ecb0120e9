"""Spoken sentences cut at the borders of their words: what a segment is, and which have a class."""

from itertools import product

import pytest
import torch

from rnnlab.data import HomophoneData
from rnnlab.data.batches import IGNORED
from rnnlab.data.espeak import SpokenWord
from rnnlab.data.homophones import HOMOPHONES
from rnnlab.data.utterances import Heard
from tests.voices import skip_without_espeak

SENTENCES = [
    f"{who} {what} {how}."
    for who, what, how in product(("They", "We", "You"), ("see the sea", "go to two", "write it right"), "abcdefghij")
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    skip_without_espeak()
    file = tmp_path_factory.mktemp("texts") / "sentences.txt"
    file.write_text("\n".join(SENTENCES))
    made = HomophoneData(file, num_train=10, num_val=4, num_test=4, num_words=20)
    made.setup()
    return made


def test_every_spelling_is_of_one_group():
    words = " ".join(HOMOPHONES).split()
    assert len(words) == len(set(words)) and all(len(group.split()) > 1 for group in HOMOPHONES)


def test_a_segment_is_a_word(data):
    batch = data.splits["train"][[0, 1, 2]]
    assert data.sizes == {"num_features": 320, "num_tags": 20} and len(data.tags) == 20
    assert batch.segments.shape == (int(batch.lengths.max()), 3, 320) and batch.tags.shape == batch.homophones.shape
    for row, length in enumerate(batch.lengths.tolist()):
        assert not batch.segments[length:, row].any() and (batch.tags[row, length:] == IGNORED).all()
    assert set(data.twins) == {"see", "sea", "to", "two", "write", "right"}
    words = [[data.tags.symbols[tag] for tag in row[row >= 0].tolist()] for row in batch.tags]
    marked = [
        [data.tags.symbols[tag] for tag in row[mark].tolist()]
        for row, mark in zip(batch.tags, batch.homophones, strict=True)
    ]
    assert marked == [[word for word in row if word in data.twins] for row in words] and any(marked)
    assert all(" ".join(row) in " ".join(SENTENCES).lower().replace(".", "") for row in words if "the" not in row)


def test_slices_are_means_of_frames_and_words_said_as_one_have_no_class(data):
    wave = torch.randn(22_050).numpy()
    words = [SpokenWord(0, 4, 0.0, 0.16), SpokenWord(5, 7, 0.2, 0.4), SpokenWord(11, 14, 0.4, 0.41)]  # no "to"
    segments, names = data._cut(Heard("", "", wave, "They go to two", words))
    assert names == ["they", "", "two"]
    features = data.spoken.features_of(torch.from_numpy(wave))
    torch.testing.assert_close(segments[0].view(8, 40).mean(0), features[:16].mean(0))
    torch.testing.assert_close(segments[2].view(8, 40), features[40:41].expand(8, -1))


def test_the_most_frequent_spelling_is_the_baseline(data):
    counts = data.state_dict()["counts"]
    baselines = data.baselines()
    assert set(baselines) <= {f"baseline/most_frequent/{part}/accuracy_homophones" for part in ("val", "test")}
    tags = torch.cat(list(data.splits["test"].tags))
    said = [word for word in data.tags.decode(tags[tags >= 0].tolist()) if word in data.twins]
    best = {max(group, key=counts.get) for group in data.twins.values()}
    expected = sum(word in best for word in said) / len(said)
    assert baselines["baseline/most_frequent/test/accuracy_homophones"] == expected


def test_a_run_knows_its_words(data):
    other = HomophoneData(data.spoken.texts, num_train=1, num_val=1, num_test=1, num_words=20, min_snr=20)
    other.setup()
    other.load_state_dict(data.state_dict())
    assert other.tags.symbols == data.tags.symbols and other.epoch_size == int(other.splits["train"].lengths[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"texts": None}, "texts must name a file of sentences, got None"),
        ({"num_words": 1}, "num_words must be an integer of at least 2, got 1"),
        ({"num_slices": 0}, "num_slices must be an integer of at least 1, got 0"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        HomophoneData(**arguments)


def test_there_are_no_questions(data, tmp_path):
    with pytest.raises(ValueError, match="the borders of words are not known in sounds of one's own"):
        data.read_queries(tmp_path / "a.wav")
