"""The authors' factor transfer: networks, losses and gradients of their released code, in float64."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from wsi_kd.kd.losses.factor_transfer import FactorTransferLoss
from wsi_kd.kd.losses.task import CrossEntropyLoss
from wsi_kd.kd.outputs import Outputs

pytestmark = pytest.mark.shared_data

CLOSE = {"rtol": 1e-9, "atol": 1e-12}
PARAPHRASER = {
    f"{half}.{2 * layer}.{part}": f"paraphraser.{'de' * (half == 'decoder')}conv{layer}.{part}"
    for half in ("encoder", "decoder")
    for layer in range(3)
    for part in ("weight", "bias")
}
TRANSLATOR = {
    f"{2 * layer}.{part}": f"translator.conv{layer}.{part}"
    for layer in range(3)
    for part in ("weight", "bias")
}


def stored(name, *, prefix):
    network, rest = name.split(".", 1)
    return f"grad.{name}" if prefix == "grad" else f"{network}.w.{rest}"


@pytest.fixture
def numbers(shared_reference):
    with np.load(shared_reference / "kd_factor_transfer_authors.npz", allow_pickle=False) as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


@pytest.fixture
def loss(numbers):
    loss = FactorTransferLoss(rate=0.5, distance="l1")
    loss.pair = "stage3"
    loss.prepare(outputs(numbers, "f_s"), outputs(numbers, "f_t"))
    weights = {
        f"{network}.{ours}": numbers[stored(theirs, prefix="w")]
        for network, names in (("paraphraser", PARAPHRASER), ("translator", TRANSLATOR))
        for ours, theirs in names.items()
    }
    loss.load_state_dict({**weights, "pretrained": torch.tensor(data=True)})
    return loss


def outputs(numbers, name):
    return Outputs(numbers["z_s"], {"stage3": numbers[name]})


def test_networks(numbers, loss):
    torch.testing.assert_close(loss.paraphraser.encoder(numbers["f_t"]), numbers["factor_t"], **CLOSE)
    torch.testing.assert_close(loss.translator(numbers["f_s"]), numbers["factor_s"], **CLOSE)
    decoded = loss.paraphraser.decoder(numbers["factor_t"])
    torch.testing.assert_close(decoded, numbers["decoder_of_factor_t"], **CLOSE)
    torch.testing.assert_close(
        loss.paraphraser(numbers["f_t"]), numbers["paraphraser_reconstruction"], **CLOSE
    )


def test_the_student_s_loss_and_gradients(numbers, loss):
    features, logits = numbers["f_s"].requires_grad_(), numbers["z_s"].requires_grad_()
    student, teacher = outputs(numbers, "f_s"), outputs(numbers, "f_t")

    transfer = loss(student, teacher, numbers["target"])
    task = CrossEntropyLoss()(student, teacher, numbers["target"])
    total = 500.0 * transfer + task
    names = dict(loss.translator.named_parameters())
    gradients = torch.autograd.grad(total, [features, logits, *names.values()])

    torch.testing.assert_close(transfer, numbers["ft_l1"], **CLOSE)
    torch.testing.assert_close(task, numbers["ce"], **CLOSE)
    torch.testing.assert_close(total, numbers["total_beta500"], **CLOSE)
    torch.testing.assert_close(gradients[0], numbers["grad_f_s"], **CLOSE)
    torch.testing.assert_close(gradients[1], numbers["grad_z_s"], **CLOSE)
    for name, gradient in zip(names, gradients[2:], strict=True):
        torch.testing.assert_close(gradient, numbers[stored(TRANSLATOR[name], prefix="grad")], **CLOSE)


def test_the_paraphraser_s_loss_and_gradients(numbers, loss):
    paraphraser = loss.paraphraser.requires_grad_()
    names = dict(paraphraser.named_parameters())

    found = F.l1_loss(paraphraser(numbers["f_t"]), numbers["f_t"])
    gradients = torch.autograd.grad(found, list(names.values()))

    torch.testing.assert_close(found, numbers["paraphraser_loss"], **CLOSE)
    for name, gradient in zip(names, gradients, strict=True):
        torch.testing.assert_close(gradient, numbers[stored(PARAPHRASER[name], prefix="grad")], **CLOSE)
