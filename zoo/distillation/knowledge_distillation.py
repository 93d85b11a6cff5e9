"""Knowledge distillation with a temperature, on timm's distillation task (Hinton, Vinyals, Dean, arXiv 1503.02531)."""

from __future__ import annotations

from timm.task import LogitDistillationTask
from timm.task.distillation import DistillationTeacher
from torch import Tensor, nn

_NEUTRAL = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


class KnowledgeDistillation(LogitDistillationTask):
    r"""timm's logit distillation in the paper's weighting, for any pair of networks.

    .. math:: L = (1 - \alpha)\, \mathrm{CE}(z_s, y) +
              \alpha\, T^2\, \mathrm{KL}\left(\mathrm{softmax}(z_t / T) \,\|\, \mathrm{softmax}(z_s / T)\right)

    The teacher runs in evaluation mode without gradient. timm renormalises the teacher's input if both networks state different
    ``pretrained_cfg`` means; networks without one get the same input.

    Args:
        model: the student, ``(N, *) -> (N, K)``.
        teacher: the trained teacher, of the same classes.
        temperature: T (paper: 20 on MNIST with large students, 2.5 to 4 with tiny ones; 4 is common).
        alpha: share of the soft term.
        criterion: of the hard labels; cross-entropy by default.

    ``forward(input, target) -> {"loss", "output", "task_loss", "kd_loss"}``.

    Raises:
        ValueError: ``temperature`` not positive, ``alpha`` outside [0, 1].
    """

    student_mean: Tensor
    student_std: Tensor

    def __init__(
        self,
        model: nn.Module,
        teacher: nn.Module,
        temperature: float = 4.0,
        alpha: float = 0.9,
        criterion: nn.Module | None = None,
    ) -> None:
        if temperature <= 0 or not 0 <= alpha <= 1:
            raise ValueError(f"temperature is positive and alpha in [0, 1], received {temperature} and {alpha}")
        first = next(model.parameters(), None)
        stated = hasattr(model, "pretrained_cfg")
        if not stated:  # timm reads the student's normalisation from here
            model.pretrained_cfg = _NEUTRAL  # type: ignore[assignment]
        try:
            super().__init__(
                student_model=model,
                teacher_model=DistillationTeacher(teacher),
                criterion=nn.CrossEntropyLoss() if criterion is None else criterion,
                task_loss_weight=1 - alpha,
                distill_loss_weight=alpha,
                temperature=temperature,
                device=None if first is None else first.device,
                verbose=False,
            )
        finally:
            if not stated:
                del model.pretrained_cfg
        if not (stated and hasattr(teacher, "pretrained_cfg")):
            # One of them states no normalisation: there is nothing to convert between.
            self.teacher.mean_kd, self.teacher.std_kd = self.student_mean.clone(), self.student_std.clone()
        self.alpha = alpha
