"""What `distill` did: its teacher and settings, and how close the student came. It is saved with the student."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

How = Literal["weights", "lora", "head"]
HOWS: tuple[How, ...] = get_args(How)

STUDENT = "distillation"  # says in the saved options that this is a student, and is the folder of its texts' hashes


@dataclass(frozen=True)
class Closeness:
    """How close the probabilities of one ordinary pass are to those of the teacher, on texts that trained nothing.

    Attributes:
        kl: Mean Kullback-Leibler divergence KL(teacher || pass), in nats; for independent labels, the sum over them.
        rms: Root mean square difference of the score of the teacher's label, or of every independent label.
        agreement: Share of texts with the same label, or of independent labels on the same side of 0.5.
    """

    kl: float
    rms: float
    agreement: float


@dataclass(frozen=True)
class Distillation:
    """What made a student.

    Attributes:
        how: What was trained: all weights, a LoRA adapter that was merged into them, or the last linear layer.
        teacher: Fingerprint of the teacher.
        teacher_scores: The options of the teacher's scores, such as `num_samples`.
        calibrated: Whether these scores were calibrated.
        texts: Number of distinct texts that it was trained on.
        held_out: Number of other texts that chose the epoch, and of those that `student` and `ordinary` are for; equal.
        settings: Settings of the training, such as the learning rate.
        student: How close the student is to its teacher.
        ordinary: How close the teacher's own ordinary pass is, with the calibration of the teacher's scores if they are
            calibrated.
    """

    how: How
    teacher: str
    teacher_scores: Mapping[str, Any]
    calibrated: bool
    texts: int
    held_out: int
    settings: Mapping[str, Any]
    student: Closeness
    ordinary: Closeness

    def __str__(self) -> str:
        before, after = self.ordinary, self.student
        return (
            f"student of {self.texts:,} texts (how={self.how!r}); on {self.held_out:,} others, from the ordinary pass "
            f"to the student: KL {before.kl:.4f} to {after.kl:.4f} nats, RMS difference {before.rms:.4f} to "
            f"{after.rms:.4f}, agreement {before.agreement:.1%} to {after.agreement:.1%}"
        )

    def saved(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    @classmethod
    def of_saved(cls, given: Mapping[str, Any]) -> "Distillation":
        """What `saved` gave. A later version may have saved more."""
        known = {one.name: given[one.name] for one in fields(cls)}
        for name in ("student", "ordinary"):
            known[name] = Closeness(**{one.name: known[name][one.name] for one in fields(Closeness)})
        return cls(**known)
