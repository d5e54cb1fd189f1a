"""Recipe auto: the validation part chooses between abmil and weno. As many classes as weno takes.

A student that scores one instance at a time cannot see a signal that lies in the whole bag (every instance of
a positive bag a little shifted), and its loss bends the shared projector away from what the teacher needs.
Both recipes are trained with one seed, and their losses on the validation bags compared in pairs:

    d_b = cross entropy of bag b by weno - the same by abmil's teacher
    weno is worse where mean(d) > tolerance x sd(d) / sqrt(bags)

once with weno's teacher and once with its student's pooled logits, calibrated (`comparison.calibrate`).
weno is kept unless its teacher or its student is worse: it costs a bag's prediction nothing then, and finds
instances better. Pairs, because bags differ far more in difficulty than models do on a bag; the student too,
because where the signal is diffuse the teachers may agree while the student's prediction is far below both.
"""

from pathlib import Path
from typing import Final, NamedTuple

from wsi_kd.bags.datasets import BagSet
from wsi_kd.training.comparison import PairedDifference, bag_losses, paired_difference
from wsi_kd.training.loop import OnEpoch, Trained
from wsi_kd.training.plan import Architecture, Distillation, Mining, Optimization
from wsi_kd.training.ranks import present_ranks
from wsi_kd.training.recipes.abmil import train_abmil
from wsi_kd.training.recipes.weno import train_weno
from wsi_kd.training.state import HistoryRow, remove_state

CANDIDATES: Final = ("abmil", "weno")
"""Folders below the work folder, where each candidate's training keeps its state."""


class Verdict(NamedTuple):
    """What the validation part says of weno beside abmil."""

    abmil_loss: float
    """Mean cross entropy of the validation bags."""
    weno_loss: float
    """The same by weno's teacher."""
    student_loss: float
    """The same by weno's student, calibrated."""
    teacher_difference: PairedDifference
    """weno's teacher less abmil's."""
    student_difference: PairedDifference
    """weno's student less abmil's teacher."""
    chosen: str

    def columns(self) -> HistoryRow:
        """Return what the history says of the choice."""
        return {
            "chosen": self.chosen,
            "chosen_abmil_loss": self.abmil_loss,
            "chosen_weno_loss": self.weno_loss,
            "chosen_student_loss": self.student_loss,
            "teacher_difference": self.teacher_difference.mean,
            "teacher_standard_error": self.teacher_difference.standard_error,
            "student_difference": self.student_difference.mean,
            "student_standard_error": self.student_difference.standard_error,
        }


def train_auto(
    train: BagSet,
    val: BagSet,
    *,
    classes: int,
    architecture: Architecture,
    optimization: Optimization,
    distillation: Distillation,
    mining: Mining | None,
    tolerance: float,
    work_dir: Path,
    on_epoch: OnEpoch,
) -> Trained:
    """Train abmil, then weno, and return the one that `judge` chooses.

    Each row of the history, the winner's, also holds the verdict: who was chosen and both figures. The states
    are kept in sub-folders of `work_dir`: a killed run goes on where it was, in either.

    Raises:
        BadInput: bags that cannot be trained on, a teacher that cannot make these labels, or a damaged state.
        RunFailed: a loss that is not finite, named with its bag and epoch.
    """
    baseline = train_abmil(
        train,
        val,
        classes=classes,
        architecture=architecture,
        optimization=optimization,
        work_dir=work_dir / "abmil",
        on_epoch=on_epoch,
    )
    distilled = train_weno(
        train,
        val,
        classes=classes,
        architecture=architecture,
        optimization=optimization,
        distillation=distillation,
        mining=mining,
        work_dir=work_dir / "weno",
        on_epoch=on_epoch,
    )
    verdict = present_ranks().told_by_first(
        judge(baseline, distilled, val, distillation=distillation, tolerance=tolerance)
    )
    winner = distilled if verdict.chosen == "weno" else baseline
    return winner._replace(history=[{**row, **verdict.columns()} for row in winner.history])


def judge(
    baseline: Trained, distilled: Trained, val: BagSet, *, distillation: Distillation, tolerance: float
) -> Verdict:
    """Compare the selected models of abmil and weno on `val`, bag by bag."""
    pooling, top_k = distillation.student_pooling, distillation.top_k
    abmil, weno = (
        bag_losses(trained.model, val, student_pooling=pooling, top_k=top_k)
        for trained in (baseline, distilled)
    )
    if weno.student is None:
        raise TypeError("the second model has no student; expected one that train_weno returned")
    teacher = paired_difference(weno.teacher, abmil.teacher)
    student = paired_difference(weno.student, abmil.teacher)
    worse = teacher.exceeds(tolerance) or student.exceeds(tolerance)
    return Verdict(
        abmil_loss=abmil.teacher.mean().item(),
        weno_loss=weno.teacher.mean().item(),
        student_loss=weno.student.mean().item(),
        teacher_difference=teacher,
        student_difference=student,
        chosen="abmil" if worse else "weno",
    )


def remove_candidates(work_dir: Path) -> None:
    """Remove the states of both candidates of a finished run, and their folders where nothing else is in."""
    for folder in (work_dir / name for name in CANDIDATES):
        if folder.is_dir():
            remove_state(folder)
            if not any(folder.iterdir()):
                folder.rmdir()
