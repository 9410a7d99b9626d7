"""Cross-entropy: the loss of plain FedAvg."""

from __future__ import annotations

from torch import Tensor

from skfedfocal.losses._loss import Loss, against_others, exponentials, log_softmax, stable_softplus


class CrossEntropyLoss(Loss):
    r"""Cross-entropy, :math:`-\log p_y`: the loss of plain FedAvg.

    Its posterior map is the softmax.

    Examples
    --------
    >>> import torch
    >>> from skfedfocal.losses import CrossEntropyLoss
    >>> CrossEntropyLoss()(torch.zeros(1, 2), torch.tensor([0]))
    tensor([0.6931])
    """

    @property
    def keeps_order(self) -> bool:
        return True

    def __call__(self, logits: Tensor, y: Tensor, constants: Tensor | None = None) -> Tensor:
        others, _ = against_others(logits, y)
        return stable_softplus(others)

    def gradient(
        self, logits: Tensor, y: Tensor, constants: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        index = y.unsqueeze(-1)
        top, gradient, total = exponentials(logits)
        rows = (total.log() + top - logits.gather(-1, index)).squeeze(-1)
        gradient.div_(total)
        return rows, gradient.scatter_add_(-1, index, gradient.new_full(index.shape, -1.0))

    def log_posterior(self, logits: Tensor, constants: Tensor | None = None) -> Tensor:
        return log_softmax(logits)
