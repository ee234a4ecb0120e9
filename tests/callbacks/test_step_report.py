"""Right sequences by length, and the automaton of a network whose state is the carry."""

from types import SimpleNamespace

import torch
from torch import nn

from rnnlab.callbacks.steps import automaton_of, right_by_length
from rnnlab.data import BinaryAdditionData, LanguageData


class Carry(nn.Module):
    """Adds rightly; its output is the carry after each step."""

    def rnn(self, segments):
        carry, outputs = torch.zeros(segments.shape[1]), []
        for bits in segments:
            carry = (bits.sum(dim=1) + carry >= 2).float()
            outputs.append(carry)
        return torch.stack(outputs).unsqueeze(2), None

    def decode(self, batch):
        carry = self.rnn(batch.segments)[0][..., 0]
        before = torch.cat([torch.zeros_like(carry[:1]), carry[:-1]])
        return ((batch.segments.sum(dim=2) + before) % 2).long().T


class AlwaysFirst(nn.Module):
    def decode(self, batch):
        return torch.zeros_like(batch.tags)


def test_a_network_that_adds_is_right_and_has_two_states():
    data = BinaryAdditionData(num_train=5, num_val=30, num_test=7, test_bits=40)
    data.setup()
    task = SimpleNamespace(model=Carry(), device=torch.device("cpu"))
    assert right_by_length(data, task) == {41: (7, 7)}
    machine, states = automaton_of(data, task, 10)
    assert machine.following.tolist() == [[0, 0, 0, 1], [0, 1, 1, 1]]
    assert machine.answers.tolist() == [[0, 1, 1, 0], [1, 0, 0, 1]] and machine.agreement == 1
    assert states.shape == (30 * 33, 1)


def test_sequences_count_in_the_group_of_their_length():
    data = LanguageData("parity", [4, 8, 16], num_train=5, num_val=5, num_test=40)
    data.setup()
    words = data.splits["test"].sequences
    expected = {
        bound: sum(not one.tags.any() for one in words if low < len(one.tags) <= bound)
        for low, bound in ((0, 4), (4, 8), (8, 16))
    }
    found = right_by_length(data, SimpleNamespace(model=AlwaysFirst(), device=torch.device("cpu")))
    assert found == {bound: (count, 40) for bound, count in expected.items()}
