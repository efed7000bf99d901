"""SOAP whose state is the same after a checkpoint."""

from __future__ import annotations

from typing import Any

from pytorch_optimizer import SOAP
from torch import Tensor


class Soap(SOAP):
    """SOAP (Vyas et al., arXiv 2409.11321) with a state in row-major order.

    Decompositions return column-major matrices and averages are laid out as gradients are; checkpoints restore
    row-major ones, and products of the two differ in the last bit: a resumed run would not be the run that was not
    stopped.
    """

    def init_group(self, group: Any, **options: Any) -> None:
        """Averages of the gradients and of their squares."""
        super().init_group(group, **options)
        for parameter in group["params"]:
            for name in ("exp_avg", "exp_avg_sq"):
                if name in self.state[parameter]:
                    self.state[parameter][name] = self.state[parameter][name].contiguous()

    @staticmethod
    def get_orthogonal_matrix(mat: Any) -> list[Tensor]:
        """Eigenbases of the first step."""
        return _contiguous(SOAP.get_orthogonal_matrix(mat))

    def get_orthogonal_matrix_qr(self, *args: Any, **options: Any) -> list[Tensor]:
        """Eigenbases of later steps."""
        return _contiguous(super().get_orthogonal_matrix_qr(*args, **options))


def _contiguous(bases: list[Any]) -> list[Any]:
    """An axis that is not rotated has an empty list for a basis."""
    return [basis.contiguous() if isinstance(basis, Tensor) else basis for basis in bases]
