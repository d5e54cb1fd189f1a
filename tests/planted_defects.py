"""Defects for the test of the tests: one change of the package each, and tests of which one turns red."""

from typing import Final, NamedTuple


class Defect(NamedTuple):
    """`old` stands once in the file; with `new` in its place at least one of the tests fails."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


DEFECTS: Final = (
    Defect(
        "a file is published without fsync",
        "core/files.py",
        "        _sync(temporary)\n        _rename(temporary, path)",
        "        _rename(temporary, path)",
        ("tests/core/test_core_files.py",),
    ),
    Defect(
        "JSON is read without its hash",
        "core/files.py",
        "is_whole = content_hash(value) == expected",
        "is_whole = bool(content_hash(value))",
        ("tests/core/test_core_files.py",),
    ),
    Defect(
        "a table is read without its hash",
        "core/files.py",
        'if file_hash(path) != stamp.get("sha256"):',
        'if not stamp.get("sha256"):',
        ("tests/core/test_core_files.py",),
    ),
    Defect(
        "features are read without their hash",
        "features/store.py",
        ".hexdigest() != body_sha256:",
        '.hexdigest() == "":',
        ("tests/features/test_features_store.py",),
    ),
    Defect(
        "weights are read without their hash",
        "core/tensors.py",
        "if hashlib.sha256(content).hexdigest() != sha256:",
        "if not sha256:",
        ("tests/training/test_checkpoint.py",),
    ),
    Defect(
        "pickled weights run code",
        "features/weights.py",
        'map_location="cpu", weights_only=True)',
        'map_location="cpu", weights_only=False)',
        ("tests/features/test_encoders.py", "tests/test_architecture_safety.py"),
    ),
    Defect(
        "XML entities are expanded",
        "tissue/annotation_xml.py",
        "from defusedxml.ElementTree import fromstring",
        "from xml.etree.ElementTree import fromstring",
        ("tests/tissue/test_annotation_formats.py", "tests/test_architecture_safety.py"),
    ),
    Defect(
        "the viewer answers any host",
        "viewer/guard.py",
        'if not (self._knows(headers.getlist("host")) and',
        "if not (True and",
        ("tests/viewer/test_guard.py",),
    ),
    Defect(
        "the viewer answers any origin",
        "viewer/guard.py",
        "return not origins or (len(origins) == 1 and",
        "return True or (len(origins) == 1 and",
        ("tests/viewer",),
    ),
    Defect(
        "two runs work on one results folder",
        "core/run_lock.py",
        "        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)\n",
        "        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)\n",
        ("tests/reliability/test_run_lock.py",),
    ),
    Defect(
        "reasons name a patient's folder",
        "steps/status.py",
        "    path, told = row.path, told_name(row.slide_id, row.path)\n",
        "    return text\n    path, told = row.path, told_name(row.slide_id, row.path)\n",
        ("tests/steps/test_status_table.py",),
    ),
    Defect(
        "the viewer lets anybody write",
        "viewer/guard.py",
        'if scope["method"] not in METHODS:',
        "if False:",
        ("tests/viewer/test_guard.py",),
    ),
    Defect(
        "label images are shown unasked",
        "viewer/desk.py",
        "if not self.show_labels:",
        "if False:",
        ("tests/viewer/test_viewer_app.py",),
    ),
    Defect(
        "pages do not escape",
        "report/render.py",
        "autoescape=True,",
        "autoescape=False,",
        ("tests/report/test_render.py",),
    ),
    Defect(
        "patients leak between the parts of a fold",
        "bags/splits.py",
        "        _check_leaks(index, fold, case_of)\n",
        "        del index, fold\n",
        ("tests/bags/test_bags_splits.py",),
    ),
    Defect(
        "slides of a patient are dealt apart",
        "bags/splits.py",
        "        cases[row.case_id].append(row)\n    return cases",
        "        cases[row.slide_id].append(row)\n    return cases",
        ("tests/bags/test_bags_splits.py",),
    ),
    Defect(
        "thresholds are chosen on the test slides",
        "evaluation/operating_points.py",
        "chosen = threshold_by(found.labels > 0, found.scores,",
        "chosen = threshold_by(part.labels > 0, part.scores,",
        ("tests/evaluation/test_operating_points.py",),
    ),
    Defect(
        "resamples are drawn without replacement",
        "evaluation/intervals.py",
        "drawn = generator.multinomial(cases, even, size=missing).astype(np.float64)",
        "drawn = np.ones((missing, cases))",
        ("tests/evaluation/test_intervals.py",),
    ),
    Defect(
        "tiles are laid out y before x",
        "tiling/grid.py",
        "coords = np.stack([xs[columns], ys[rows]], axis=1)",
        "coords = np.stack([ys[rows], xs[columns]], axis=1)",
        ("tests/tiling",),
    ),
    Defect(
        "GeoJSON forgets the corner of the slide's bounds",
        "tissue/geojson.py",
        "moved = area if origin == (0, 0) else affinity.translate(area, *origin)",
        "moved = area",
        ("tests/tissue/test_annotations.py", "tests/tissue/test_annotation_formats.py"),
    ),
    Defect(
        "heatmap regions add the corner of the bounds",
        "inference/region_file.py",
        "    x, y = outlined.origin\n",
        "    x, y = (-outlined.origin[0], -outlined.origin[1])\n",
        ("tests/inference/test_regions.py",),
    ),
    Defect(
        "tiles of negative slides have soft labels",
        "kd/pseudo_labels.py",
        "return raised[:, None] * (classes[:, None] == positives)",
        "return raised[:, None] * (classes[:, None] >= positives - 1)",
        ("tests/kd/test_pseudo_labels.py",),
    ),
    Defect(
        "mining has no guard",
        "training/mining_guard.py",
        "if not mining.guard or ",
        "if True or ",
        ("tests/training/test_recipes.py::test_the_papers_mining_ruins_the_teacher_and_the_guard_saves_it",),
    ),
    Defect(
        "attention is normalized over the batch",
        "mil/pooling.py",
        "return weights / segment_sum(weights, offsets)[segment_ids(offsets, len(weights))]",
        "return weights / weights.sum()",
        ("tests/mil/test_pooling.py",),
    ),
    Defect(
        "temperature is applied the wrong way",
        "evaluation/calibration.py",
        "return np.asarray(expit(logit(probabilities) / temperature))",
        "return np.asarray(expit(logit(probabilities) * temperature))",
        ("tests/evaluation/test_calibration.py",),
    ),
    Defect(
        "damaged JPEG tiles pass for whole ones",
        "slides/stored_tiles.py",
        'simplejpeg.decode_jpeg(self.stream(index), "RGB", buffer=out)',
        'simplejpeg.decode_jpeg(self.stream(index), "RGB", buffer=out, strict=False)',
        ("tests/slides/test_stored_faults.py",),
    ),
    Defect(
        "a slide unlike the training is not flagged",
        "inference/likeness.py",
        "return distance > limit.limit",
        "return distance > 1e9",
        ("tests/inference/test_likeness.py",),
    ),
    Defect(
        "failed slides end with exit code 0",
        "core/errors.py",
        "    exit_code = 3",
        "    exit_code = 0",
        ("tests/cli/test_cli_infer.py", "tests/steps/test_infer_batch.py"),
    ),
)
