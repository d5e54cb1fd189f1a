"""The distilled student on disk: weights, and what rebuilds the network around them.

>>> from wsi_kd.distillation.student import load_student  # doctest: +SKIP
>>> student = load_student(Path("results/kd/example"))  # doctest: +SKIP
>>> student.probabilities(inputs)  # doctest: +SKIP
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import file_hash, publish_json, read_json
from wsi_kd.core.provenance import check_schema, stamp
from wsi_kd.core.tensors import publish_tensors
from wsi_kd.distillation.networks import NetworkPlan, create_network
from wsi_kd.distillation.samples import ArrayInputs, Scaling
from wsi_kd.kd.batches import describe, find_logits

KIND: Final = "student"
REMAKE: Final = "wsi-kd distill"
FACTS_FILE: Final = "student.json"
WEIGHTS_FILES: Final = {"best": "student.safetensors", "last": "last.safetensors"}
PRETRAINED: Final = "pretrained"


class Student(NamedTuple):
    """A distilled network that is ready for use."""

    network: nn.Module
    """In eval mode, on the CPU; it reads scaled inputs and gives logits."""
    class_names: tuple[str, ...]
    input_shape: tuple[int, ...]
    """Of one sample."""
    scaling: Scaling | None
    """What the inputs go through first."""

    @torch.no_grad()
    def probabilities(self, inputs: Num[Tensor, "samples ..."]) -> Float[Tensor, "samples classes"]:
        """Return the probability of each class; `inputs` are as the data source has them, not scaled.

        Bytes are divided by 255 as the sources do, other numbers are taken as float32.

        Raises:
            BadInput: samples of another shape, NaN or infinity in them, no logits.
        """
        if tuple(inputs.shape[1:]) != self.input_shape:
            expected = ", ".join(map(str, ("samples", *self.input_shape)))
            raise BadInput(f"inputs are {tuple(inputs.shape)}; expected ({expected})")
        values = ArrayInputs(inputs).take(range(len(inputs)))
        if not bool(values.isfinite().all()):
            raise BadInput("inputs hold NaN or infinity; leave those samples out")
        logits = find_logits(self.network(values if self.scaling is None else self.scaling(values)))
        if not isinstance(logits, Tensor):
            raise BadInput(f"the network gave {describe(logits)}; expected logits")
        return logits.softmax(dim=1)


class StudentFacts(NamedTuple):
    """What rebuilds a student."""

    network: NetworkPlan
    class_names: tuple[str, ...]
    input_shape: tuple[int, ...]
    scaling: Scaling | None


def write_student(
    folder: Path,
    facts: StudentFacts,
    *,
    weights: Mapping[Literal["best", "last"], Mapping[str, Tensor]],
    settings: Mapping[str, Any],
) -> None:
    """Write student.safetensors (best), last.safetensors and student.json, in this order.

    Raises:
        RunFailed: a full disk, a folder that cannot be written.
    """
    for which, tensors in weights.items():
        publish_tensors(folder / WEIGHTS_FILES[which], tensors, metadata={"format": "pt"})
    scaling = facts.scaling
    publish_json(
        folder / FACTS_FILE,
        {
            **stamp(KIND, settings),
            "network": {"name": facts.network.name, "options": facts.network.options},
            "class_names": list(facts.class_names),
            "input_shape": list(facts.input_shape),
            "scaling": scaling and {"mean": scaling.mean.tolist(), "deviation": scaling.deviation.tolist()},
            "weights_sha256": {which: file_hash(folder / WEIGHTS_FILES[which]) for which in weights},
        },
    )


def load_student(folder: Path, *, which: Literal["best", "last"] = "best") -> Student:
    """Rebuild the student that `wsi-kd distill` wrote: of the best epoch on validation, or of the last one.

    A network that is a function of the user's is built by that function again.

    Raises:
        BadInput: files that are absent, damaged, of two runs or of another version.
    """
    if which not in WEIGHTS_FILES:
        raise BadInput(f"which is '{which}'; expected best or last")
    facts_path, path = folder / FACTS_FILE, folder / WEIGHTS_FILES[which]
    facts = read_json(facts_path, remake=REMAKE)
    check_schema(facts, KIND, where=facts_path, remake=REMAKE)
    if not path.is_file() or file_hash(path) != facts["weights_sha256"][which]:
        raise BadInput(
            f"{path}: absent, damaged, or of another run than {FACTS_FILE}; make it with: {REMAKE}"
        )
    options = dict(facts["network"]["options"])
    if PRETRAINED in options:  # the weights are in the file: nothing is to be downloaded
        options[PRETRAINED] = False
    input_shape = tuple(facts["input_shape"])
    plan = NetworkPlan(facts["network"]["name"], options, path)
    network = create_network(plan, input_shape=input_shape, classes=len(facts["class_names"]))
    scaling = facts["scaling"] and Scaling(*(torch.tensor(facts["scaling"][key]) for key in Scaling._fields))
    return Student(network.eval(), tuple(facts["class_names"]), input_shape, scaling)
