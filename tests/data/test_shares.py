"""Processes that train together share out the rows of a batch."""

import pytest

from rnnlab.data.shares import BorrowedRows, Share


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [1, 2, 5, 6, 20])
def test_shares_are_the_batch_in_its_order(ranks, count):
    rows = list(range(100, 100 + count))
    shares = [Share(rank, ranks).of(rows) for rank in range(ranks)]
    own = [share for share in shares if not isinstance(share, BorrowedRows)]
    assert [row for share in own for row in share] == rows
    assert max(map(len, own)) - min(map(len, own)) <= 1
    assert all(share == rows[:1] for share in shares if isinstance(share, BorrowedRows))
    assert not isinstance(shares[0], BorrowedRows)  # the first one speaks for all
