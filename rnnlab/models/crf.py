"""A conditional random field over the tags of a sentence.

B batch, T time, K tags.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rnnlab.decoding import viterbi
from rnnlab.decoding.viterbi import check_lattice


class LinearChainCRF(nn.Module):
    """Scores of neighbouring tags, trained so that the true sequence is likely (Lafferty et al., 2001).

    The score of tags y of a sentence is start[y_1] + sum_t emissions[t, y_t] + sum_t transitions[y_{t-1}, y_t] +
    end[y_n], and p(y) = exp(score) / Z, where Z sums over all sequences; emissions come from a network (Lample et al.,
    2016). All sums are computed in float32 at least, whatever the dtype of the emissions. Parameters start at zero: a
    layer that has learned nothing equals a softmax at each token. A parameter set to -inf forbids, and stays: its
    gradient is 0.

    Args:
        num_tags: K.

    Example:
        >>> import torch
        >>> crf = LinearChainCRF(3)
        >>> emissions, lengths = torch.zeros(2, 4, 3), torch.tensor([4, 2])
        >>> crf.loss(emissions, torch.zeros(2, 4, dtype=torch.int64), lengths)  # 4 ln 3 and 2 ln 3
        tensor([4.3944, 2.1972], grad_fn=<SubBackward0>)
    """

    def __init__(self, num_tags: int) -> None:
        super().__init__()
        self.transitions = nn.Parameter(torch.zeros(num_tags, num_tags))
        self.start = nn.Parameter(torch.zeros(num_tags))
        self.end = nn.Parameter(torch.zeros(num_tags))

    def loss(self, emissions: Tensor, tags: Tensor, lengths: Tensor) -> Tensor:
        """Return the negative log-likelihood of each sentence's tags, in nats.

        A token without a tag may have any: what is scored is the probability of the other tags, summed over those that
        it might have had.

        Args:
            emissions: (B, T, K). Those beyond a sentence's length have no influence, and their gradient is 0.
            tags: int64 (B, T), negative where a token has none; whatever stands beyond the length has no influence.
            lengths: (B,) integers from 1 to T.

        Returns:
            (B,), in float32 or wider; infinite where the tags are forbidden.

        Raises:
            ValueError: shapes that do not fit, or lengths that are no integers from 1 to T.
        """
        if tags.shape != emissions.shape[:2]:
            raise ValueError(f"tags must be {tuple(emissions.shape[:2])}, as the emissions, got {tuple(tags.shape)}")
        others = torch.arange(emissions.shape[2], device=tags.device) != tags.unsqueeze(2)  # (B, T, K)
        allowed = emissions.masked_fill(others & (tags >= 0).unsqueeze(2), -torch.inf)
        # Both sums in one pass over time: of all sequences, and of those that agree with the tags.
        log_z = self.log_partition(torch.cat([emissions, allowed]), lengths.repeat(2))
        every, agreeing = log_z.chunk(2)
        return every - agreeing

    def log_partition(self, emissions: Tensor, lengths: Tensor) -> Tensor:
        """Return log Z of each sentence (B,), by the forward algorithm; arguments as for `loss`."""
        check_lattice(emissions, self.transitions, self.start, self.end, lengths)
        dtype = torch.promote_types(emissions.dtype, torch.float32)
        transitions, start, end = (weight.to(dtype) for weight in (self.transitions, self.start, self.end))
        inside = torch.arange(emissions.shape[1], device=lengths.device) < lengths.unsqueeze(1)  # (B, T)
        # What is padded might be NaN or infinite, which no gradient of 0 stops.
        steps = emissions.to(dtype).masked_fill(~inside.unsqueeze(2), 0).unbind(1)
        alpha = start + steps[0]  # (B, K), log of the sum over all beginnings that end in each tag
        for t in range(1, len(steps)):
            through = _logsumexp(alpha.unsqueeze(2) + transitions) + steps[t]
            alpha = torch.where(inside[:, t : t + 1], through, alpha)
        return _logsumexp(alpha + end)

    def marginals(self, emissions: Tensor, lengths: Tensor) -> Tensor:
        """Return the probability of each tag at each token (B, T, K), 0 beyond the lengths; arguments as for `loss`.

        It is the gradient of log Z with respect to the emissions.
        """
        with torch.inference_mode(False), torch.enable_grad():
            emissions = emissions.detach().clone().requires_grad_()
            return torch.autograd.grad(self.log_partition(emissions, lengths).sum(), emissions)[0]

    def decode(self, emissions: Tensor, lengths: Tensor) -> Tensor:
        """Return the most likely tags, int64 (B, T), 0 beyond the lengths; arguments as for `loss`."""
        return viterbi(emissions, self.transitions, self.start, self.end, lengths)[0]


def _logsumexp(scores: Tensor) -> Tensor:
    """Return the log of the sum of exp over dimension 1; the gradient of a sum of nothing but -inf is 0, not NaN."""
    impossible = scores.amax(dim=1, keepdim=True) == -torch.inf
    return scores.masked_fill(impossible, 0).logsumexp(dim=1).masked_fill(impossible.squeeze(1), -torch.inf)
