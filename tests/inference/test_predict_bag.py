import numpy as np
import pytest
import torch

from wsi_kd.core.errors import BadInput
from wsi_kd.inference import predict
from wsi_kd.inference.predict import predict_bag
from wsi_kd.inference.slide_prediction import slide_scores
from wsi_kd.mil.registry import create_model


def _model(*, teacher="gated_abmil", with_student=True, classes=2, seed=0):
    torch.manual_seed(seed)
    return create_model(
        teacher,
        feature_dim=6,
        classes=classes,
        hidden_dim=16,
        attention_dim=8,
        dropout=0.5,
        student_hidden_dim=0,
        with_student=with_student,
    )


def _features(tiles=20, seed=0):
    return np.random.default_rng(seed).normal(size=(tiles, 6)).astype(np.float32)


def _predict(model, features, *, student_pooling="topk", top_k=3):
    return predict_bag(model, features, student_pooling=student_pooling, top_k=top_k, device="cpu")


def test_scores_are_the_softmax_and_sigmoid_of_the_models_logits():
    model, features = _model(), _features()
    prediction = _predict(model, features)
    model.eval()
    with torch.no_grad():
        output = model(torch.from_numpy(features), torch.tensor([0, 20]))
    assert prediction.teacher_probability == pytest.approx(output.bag_logits[0].softmax(0).numpy(), abs=1e-6)
    assert prediction.attention == pytest.approx(output.attention_logits.softmax(0).numpy(), abs=1e-6)
    assert prediction.attention_logits == pytest.approx(output.attention_logits.numpy(), abs=1e-6)
    assert prediction.evidence == pytest.approx(output.evidence.softmax(1)[:, 1:].numpy(), abs=1e-6)
    assert prediction.student.tiles == pytest.approx(output.instance_logits.sigmoid().numpy(), abs=1e-6)
    top = output.instance_logits[:, 0].topk(3).values.mean().sigmoid().item()
    assert prediction.student_probability == pytest.approx(top, abs=1e-6)
    largest = output.instance_logits.max().sigmoid().item()
    assert prediction.student.by_max == pytest.approx([1 - largest, largest], abs=1e-6)
    assert np.array_equal(prediction.student.deployed, prediction.student.by_topk)
    assert prediction.attention.sum() == pytest.approx(1.0, abs=1e-12)
    assert all(array.dtype == np.float64 for array in (prediction.attention, prediction.evidence))


@pytest.mark.parametrize("with_student", [True, False])
@pytest.mark.parametrize("teacher", ["abmil", "gated_abmil", "clam_sb", "additive_mil"])
def test_a_large_slide_scores_in_blocks_as_at_once(teacher, with_student, monkeypatch):
    """All but ABMIL are asked once and for the whole bag; ABMIL never sees more than a block."""
    model, features = _model(teacher=teacher, with_student=with_student), _features(100).astype(np.float16)
    whole, asked = _predict(model, features), []
    monkeypatch.setattr(predict, "TILES_AT_ONCE", 7)
    model.projector.register_forward_hook(lambda module, given, _: asked.append(len(given[0])))
    blocks = _predict(model, features)
    assert asked == ([7] * 14 + [2] if "abmil" in teacher else [100])
    assert blocks.teacher_probability == pytest.approx(whole.teacher_probability, abs=1e-6)
    for name in ("attention", "attention_logits", "evidence", "feature_distance"):
        assert getattr(blocks, name) == pytest.approx(getattr(whole, name), abs=1e-6)
    if with_student:
        assert blocks.student.tiles == pytest.approx(whole.student.tiles, abs=1e-6)
        assert blocks.student.deployed == pytest.approx(whole.student.deployed, abs=1e-6)
    features[99, 5] = np.nan
    with pytest.raises(BadInput, match="NaN"):
        _predict(model, features)


def test_of_a_block_only_its_results_stay():
    """The product of gates and evidence has 18 columns, two of them evidence: a view would keep them all."""
    model = _model().eval()
    with torch.inference_mode():
        block = predict._read(model, model.teacher, torch.from_numpy(_features(6)))
    for found in block:
        assert found.untyped_storage().nbytes() == found.nbytes


def test_dropout_never_acts_and_every_module_keeps_its_own_mode():
    model = _model().train()
    model.teacher.eval()  # a mixed state must come back as it was
    modes = [module.training for module in model.modules()]
    first, second = _predict(model, _features()), _predict(model, _features())
    assert np.array_equal(first.attention_logits, second.attention_logits)
    assert first.student_probability == second.student_probability
    assert [module.training for module in model.modules()] == modes
    assert True in modes
    assert False in modes


def test_modes_come_back_when_the_model_fails():
    model = _model().train()
    with pytest.raises(RuntimeError):
        _predict(model, np.zeros((3, 5), dtype=np.float32))
    assert all(module.training for module in model.modules())


def test_max_is_top_one_and_few_tiles_average_all():
    model, features = _model(), _features(4)
    largest = _predict(model, features, student_pooling="max", top_k=99)
    assert largest.student_probability == _predict(model, features, top_k=1).student_probability
    assert largest.student_probability == pytest.approx(largest.student.tiles.max(), abs=1e-15)
    every = _predict(model, features, top_k=99)
    logits = np.log(every.student.tiles / (1 - every.student.tiles))
    assert every.student_probability == pytest.approx(1 / (1 + np.exp(-logits.mean())), abs=1e-12)


def test_tile_order_permutes_tile_scores_and_leaves_slide_scores():
    model, features = _model(), _features(50)
    order = np.random.default_rng(1).permutation(50)
    straight, shuffled = _predict(model, features), _predict(model, features[order])
    assert shuffled.teacher_probability == pytest.approx(straight.teacher_probability, abs=1e-6)
    assert shuffled.student_probability == pytest.approx(straight.student_probability, abs=1e-6)
    assert shuffled.attention == pytest.approx(straight.attention[order], abs=1e-6)


def test_one_tile_gets_all_the_attention():
    prediction = _predict(_model(), _features(1))
    assert prediction.attention.tolist() == [1.0]


def test_half_precision_features_score_as_their_float32_values():
    model, features = _model(), _features().astype(np.float16)
    half, full = _predict(model, features), _predict(model, features.astype(np.float32))
    assert np.array_equal(half.attention, full.attention)


def test_three_classes_without_student():
    prediction = _predict(_model(with_student=False, classes=3), _features())
    assert prediction.teacher_probability.shape == (3,)
    assert prediction.teacher_probability.sum() == pytest.approx(1.0, abs=1e-12)
    assert prediction.student_probability is None
    assert prediction.student is None
    assert ((prediction.evidence > 0) & (prediction.evidence < 1)).all()


def test_the_student_of_three_classes_has_a_logit_for_each_positive_one():
    model, features = _model(classes=3), _features()
    prediction = _predict(model, features, student_pooling="max")
    model.eval()
    with torch.no_grad():
        logits = model(torch.from_numpy(features), torch.tensor([0, 20])).instance_logits.double()
    assert prediction.student.tiles == pytest.approx(logits.sigmoid().numpy(), abs=1e-6)
    zero = torch.zeros(1, dtype=torch.float64)
    by_max = torch.cat([zero, logits.amax(0)]).softmax(0)
    by_topk = torch.cat([zero, logits.sort(0).values[-3:].mean(0)]).softmax(0)  # each class its own tiles
    assert prediction.student.by_max == pytest.approx(by_max.numpy(), abs=1e-6)
    assert prediction.student.by_topk == pytest.approx(by_topk.numpy(), abs=1e-6)
    assert prediction.student_probability == pytest.approx(1 - by_max[0].item(), abs=1e-6)
    assert prediction.evidence.shape == (20, 2)
    assert slide_scores(prediction) == {
        "teacher": pytest.approx(1 - prediction.teacher_probability[0]),
        "student": prediction.student_probability,
        "student_max": prediction.student_probability,
        "student_topk": pytest.approx(1 - by_topk[0].item(), abs=1e-6),
    }


def test_branches_of_a_teacher_are_attention_of_each_class():
    torch.manual_seed(0)
    model = create_model(
        "clam_mb",
        feature_dim=6,
        classes=3,
        hidden_dim=16,
        attention_dim=8,
        dropout=0.0,
        student_hidden_dim=0,
        with_student=False,
    )
    prediction = _predict(model, _features())
    assert prediction.branch_attention.sum(axis=0) == pytest.approx(np.ones(3), abs=1e-12)
    predicted = int(prediction.teacher_probability.argmax())
    assert prediction.attention == pytest.approx(prediction.branch_attention[:, predicted], abs=1e-12)
    assert _predict(_model(), _features()).branch_attention is None


def test_pixels_are_read_as_they_are():
    torch.manual_seed(0)
    model = create_model(
        "gated_abmil",
        feature_dim=3 * 32 * 32,
        classes=2,
        hidden_dim=8,
        attention_dim=4,
        dropout=0.0,
        student_hidden_dim=0,
        with_student=True,
        projector="cnn_small",
    )
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3 * 32 * 32), dtype=np.uint8)
    prediction = _predict(model, pixels)
    model.eval()
    with torch.no_grad():
        output = model(torch.from_numpy(pixels), torch.tensor([0, 5]))
    assert prediction.student.tiles == pytest.approx(output.instance_logits.sigmoid().numpy(), abs=1e-6)
    assert prediction.attention_logits == pytest.approx(output.attention_logits.numpy(), abs=1e-6)


def test_extreme_logits_stay_finite():
    model = _model()
    prediction = _predict(model, _features() * 1e6)
    for array in (prediction.attention, prediction.evidence, *prediction.student):
        assert np.isfinite(array).all()


@pytest.mark.parametrize(
    ("features", "words"),
    [
        (np.zeros((0, 6), dtype=np.float32), "without tiles"),
        (np.full((2, 6), np.nan, dtype=np.float32), "NaN or infinite"),
    ],
)
def test_features_that_cannot_be_scored_are_refused(features, words):
    with pytest.raises(BadInput, match=words):
        _predict(_model(), features)


def test_unknown_pooling_is_refused():
    with pytest.raises(BadInput, match="unknown student_pooling 'mean'; known: max, topk"):
        _predict(_model(), _features(), student_pooling="mean")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_gpu_and_cpu_agree():
    model, features = _model(), _features(200)
    on_cpu = _predict(model, features)
    on_gpu = predict_bag(model.to("cuda"), features, student_pooling="topk", top_k=3, device="cuda")
    assert on_gpu.attention == pytest.approx(on_cpu.attention, abs=1e-5)
    assert on_gpu.student_probability == pytest.approx(on_cpu.student_probability, abs=1e-5)
