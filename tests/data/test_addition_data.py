"""Questions and answers: right, unique as unordered pairs over all splits, and encoded as documented."""

import numpy as np
import pytest
import torch

from rnnlab.data import AdditionData, addition, decode, encode
from rnnlab.data.addition import VOCABULARY, draw_pairs


def texts(data, split):
    """Return (a, b, answer) of each row, read back from ids."""
    rows = []
    for question, answer in zip(*data.splits[split], strict=True):
        a, b = data.question_text(question).split("+")
        rows.append((a, b, data.answer_text(answer)))
    return rows


def made(**arguments):
    data = AdditionData(**arguments)
    data.setup()
    return data


CASES = {
    "3 digits": {"num_questions": 3_000, "num_test": 500},
    "nearly all pairs": {"digits": 2, "num_questions": 4_500, "num_test": 550, "val_fraction": 0.2},
    "5 digits": {"digits": 5, "num_questions": 20_000, "num_test": 500},
    "18 digits": {"digits": 18, "num_questions": 1_000, "num_test": 500},
}


@pytest.mark.parametrize("arguments", CASES.values(), ids=CASES)
def test_splits_are_unique_and_disjoint(arguments):
    data = made(**arguments)
    rows = [row for split in ("train", "val", "test") for row in texts(data, split)]
    assert len(rows) == arguments["num_questions"] + arguments["num_test"]
    assert len({tuple(sorted((int(a), int(b)))) for a, b, _ in rows}) == len(rows)


@pytest.mark.parametrize("arguments", CASES.values(), ids=CASES)
def test_answers_are_right_and_operands_in_range(arguments):
    data = made(**arguments)
    for a, b, answer in texts(data, "test"):
        assert int(answer) == int(a) + int(b)
        assert max(len(a), len(b)) <= data.digits
        assert all(text == str(int(text)) for text in (a, b, answer))


def test_default_sizes():
    data = AdditionData()
    assert data.sizes == {"vocab_size": 12, "answer_length": 4}
    data.setup()
    assert {split: len(rows[0]) for split, rows in data.splits.items()} == {
        "train": 45_000,
        "val": 5_000,
        "test": 5_000,
    }
    questions, answers = data.splits["train"]
    assert questions.shape == (45_000, 7) and answers.shape == (45_000, 4)
    assert questions.dtype == answers.dtype == torch.int64


@pytest.mark.parametrize("reverse", [True, False])
def test_questions_are_padded_then_reversed_and_answers_never(reverse):
    data = AdditionData(reverse=reverse, num_questions=2_000, num_test=2_000)
    (ids,) = data.encode_questions(["1+23"])
    assert decode(ids) == ("   32+1" if reverse else "1+23   ")
    assert data.question_text(ids) == "1+23"
    data.setup()
    answers = [decode(answer) for answer in data.splits["test"][1]]
    assert {len(answer.rstrip()) for answer in answers} == {1, 2, 3, 4}
    assert not any(answer.startswith(" ") for answer in answers)


def test_encode_and_decode_are_inverse():
    assert encode(VOCABULARY).tolist() == list(range(12))
    assert decode(encode("12+3 ")) == "12+3 "
    with pytest.raises(ValueError, match="got '-'"):
        encode("1-2")


def test_seed_decides_everything():
    first, again, other = (made(num_questions=500, num_test=100, seed=seed, batch_size=50) for seed in (0, 0, 1))
    for split in ("train", "val", "test"):
        assert torch.equal(first.splits[split][0], again.splits[split][0])
        assert not torch.equal(first.splits[split][0], other.splits[split][0])


def test_pairs_keep_the_order_of_their_operands():
    pairs = draw_pairs(2_000, 3, np.random.default_rng(0))
    assert 0.4 < np.mean(pairs[:, 0] < pairs[:, 1]) < 0.6


def test_operand_lengths_are_uniform_before_zeros_collapse():
    pairs = draw_pairs(20_000, 6, np.random.default_rng(0))
    # Long operands hardly ever repeat. Five digits arise from length 5, or from length 6 with one leading zero.
    five, six = np.sum((10**4 <= pairs) & (pairs < 10**5)), np.sum(10**5 <= pairs)
    assert abs(five / six - (0.9 + 0.09) / 0.9) < 0.06


def test_enumeration_and_rejection_draw_from_one_distribution(monkeypatch):
    def mean_short_operands():
        counts = [np.mean(draw_pairs(300, 2, np.random.default_rng(seed)) < 10) for seed in range(200)]
        return np.mean(counts), np.std(counts) / np.sqrt(len(counts))

    enumerated, error = mean_short_operands()
    monkeypatch.setattr(addition, "_MAX_ENUMERATED", 0)
    rejected, _ = mean_short_operands()
    assert abs(enumerated - rejected) < 5 * error


REFUSALS = [
    ({"digits": 0}, "digits must be an integer from 1 to 18, got 0"),
    ({"digits": 19}, "from 1 to 18, got 19"),
    ({"digits": 2.5}, "got 2.5"),
    ({"num_questions": 1}, "num_questions must be an integer of at least 2, got 1"),
    ({"num_test": 0}, "num_test must be an integer of at least 1, got 0"),
    ({"val_fraction": 0}, "val_fraction must lie strictly between 0 and 1, got 0"),
    ({"num_questions": 4, "val_fraction": 0.01, "batch_size": 1}, "leave a question in train and validation"),
    ({"digits": 2}, r"at most 5050, .* of up to 2 digits, got 50000 \+ 5000 = 55000"),
    ({"batch_size": 45_001}, "at most the size of the training part, 45000, got 45001"),
    ({"batch_size": 0}, "batch_size must be an integer of at least 1, got 0"),
    ({"seed": -1}, "seed must be an integer of at least 0, got -1"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSALS, ids=[str(arguments) for arguments, _ in REFUSALS])
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        AdditionData(**arguments)


def test_queries_become_answers(tmp_path):
    file = tmp_path / "questions.txt"
    file.write_text("12+345\n 7 + 8 \n007+1\n")
    data = AdditionData()
    queries = data.read_queries(file)
    assert [data.question_text(ids) for ids in queries.inputs] == ["12+345", "7+8", "7+1"]
    answers = torch.stack([encode(text) for text in ("357 ", "15  ", "8   ")])
    assert data.write_answers(queries, [answers]) == "12+345\t357\n7+8\t15\n7+1\t8\n"


@pytest.mark.parametrize("end", ["", "\n", "\n\n \n"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_questions_may_have_a_byte_order_mark_any_line_ends_and_blank_lines_at_the_end(tmp_path, newline, end):
    (tmp_path / "q.txt").write_bytes(f"\ufeff1+1\n2+2{end}".replace("\n", newline).encode())
    assert AdditionData().read_queries(tmp_path / "q.txt").context == ["1+1", "2+2"]
    (tmp_path / "q.txt").write_bytes(f"1+1\n2+2{end}".replace("\n", newline).encode("utf-16"))
    assert AdditionData().read_queries(tmp_path / "q.txt", "utf-16").context == ["1+1", "2+2"]


@pytest.mark.parametrize("line", ["", "12", "12-3", "1+2+3", "a+b", "1234+1", "1.5+2"])
def test_bad_queries_name_file_and_line(tmp_path, line):
    file = tmp_path / "questions.txt"
    file.write_text(f"1+1\n{line}\n2+2\n")
    with pytest.raises(ValueError, match=r"questions\.txt:2: .*got '"):
        AdditionData().read_queries(file)


def test_missing_and_empty_query_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no file of questions at"):
        AdditionData().read_queries(tmp_path / "absent.txt")
    (tmp_path / "empty.txt").touch()
    with pytest.raises(ValueError, match="is empty"):
        AdditionData().read_queries(tmp_path / "empty.txt")
