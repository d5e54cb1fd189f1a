"""The workflow's plan: what each step depends on, and on nothing else."""

import json
import os

import pytest

from wsi_kd.cli.plan import SECTIONS_OF_RECIPE, STEP_SECTIONS, read_plan
from wsi_kd.cli.rows import rows_hash
from wsi_kd.core.errors import BadInput
from wsi_kd.core.provenance import stamp
from wsi_kd.settings.all import Settings, parse_json_settings
from wsi_kd.steps.status import write_status

EDITS = {
    "slides": {"min_mpp": 0.06},
    "mask": {"mask_mpp": 9.0},
    "tile": {"tile_mpp": 1.0},
    "stain": {"tiles": 8},
    "embed": {"batch_size": 7},
    "adopt": {"encoder": "uni"},
    "qc": {"thumbnail_px": 256},
    "split": {"seed": 3},
    "train": {"epochs": 5},
    "predict": {"device": "cpu"},
    "evaluate": {"bootstrap_samples": 200},
    "report": {"gallery_slides": 2},
}


def texts(config) -> dict[str, str]:
    plan = read_plan(config)
    steps = {step: plan.step_settings(step) for step in STEP_SECTIONS if step != "train"}
    return {**steps, "train": plan.train_settings("weno", 0)}


def test_the_plan_of_ten_slides(cohort):
    plan = read_plan(cohort)
    assert [len(chunk) for chunk in plan.chunks] == [4, 4, 2]
    assert plan.folds == 5
    assert plan.manifest.classes == ("normal", "tumor")
    assert plan.slide_files(1) == []  # no file name reaches Snakemake


def test_what_a_rule_passes_is_valid_settings(cohort):
    for step, text in texts(cohort).items():
        settings = parse_json_settings(text)
        assert str(settings.run.manifest) == cohort["run"]["manifest"], step
        assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":")), step


@pytest.mark.parametrize("section", EDITS)
def test_an_edit_changes_the_text_of_its_own_step_first(cohort, section):
    """Steps before the edited one keep their text; the step itself (mask for `slides`) does not."""
    before, after = texts(cohort), texts({**cohort, section: EDITS[section]})
    changed = [step for step in STEP_SECTIONS if before[step] != after[step]]
    assert changed[0] == ("mask" if section == "slides" else section)
    line = list(STEP_SECTIONS)
    assert all(line.index(step) >= line.index(changed[0]) for step in changed)


@pytest.mark.parametrize(
    ("key", "value", "steps"),
    [
        ("title", "another", ["qc", "report"]),
        ("max_failed_slides", 4, ["check_status"]),
        ("slides_per_job", 3, ["mask", "tile", "embed", "adopt", "qc", "split"]),
    ],
)
def test_a_key_of_run_changes_only_what_reads_it(cohort, key, value, steps):
    before, after = texts(cohort), texts({**cohort, "run": {**cohort["run"], key: value}})
    assert [step for step in STEP_SECTIONS if before[step] != after[step]] == steps


def test_every_section_and_step_has_a_place():
    assert set(EDITS) | {"run"} == set(Settings.model_fields)
    assert set(STEP_SECTIONS) - {"check_status"} == set(Settings.model_fields) - {"run", "slides"}


def test_other_recipes_and_seeds_do_not_touch_a_training(cohort):
    plain = read_plan(cohort)
    more = read_plan({**cohort, "train": {"seeds": [0, 1], "weno": {"negative_weight": 0.3}}})
    assert plain.train_settings("abmil", 0) == more.train_settings("abmil", 0)
    assert plain.train_settings("weno", 0) != more.train_settings("weno", 0)
    assert more.train_settings("abmil", 0) != more.train_settings("abmil", 1)
    assert json.loads(more.train_settings("weno", 1))["train"]["weno"]["negative_weight"] == 0.3
    assert plain.step_settings("evaluate") != more.step_settings("evaluate")


@pytest.mark.parametrize(
    ("section", "readers"),
    [
        ({"weno": {"label_floor": 0.3}}, {"weno", "auto"}),
        ({"instance": {"pooling": "mean"}}, {"instance"}),
        ({"ins": {"temperature": 0.5}}, {"ins"}),
        ({"mhim": {"mask_ratio": 0.1}}, {"mhim"}),
        ({"auto": {"tolerance": 1.0}}, {"auto"}),
        ({"distill": {"hidden_dim": 7}}, {"distill"}),
        ({"top_k": 9}, set(SECTIONS_OF_RECIPE)),
    ],
)
def test_a_section_of_train_touches_the_recipes_that_read_it(cohort, section, readers):
    plain, changed = read_plan(cohort), read_plan({**cohort, "train": section})
    touched = {
        name
        for name in SECTIONS_OF_RECIPE
        if plain.train_settings(name, 0) != changed.train_settings(name, 0)
    }
    assert touched == readers


@pytest.mark.parametrize(
    ("column", "value", "steps"),
    [
        ("label", "tumor", ["tile", "split", "evaluate", "report"]),
        ("case_id", "p9", ["split", "evaluate", "report"]),
        ("slide_mpp", 0.3, ["mask", "tile", "embed"]),
        ("site", "north", ["evaluate", "report"]),
        ("extra", (("batch", "2"),), ["evaluate"]),
    ],
)
def test_a_manifest_column_touches_only_the_steps_that_read_it(cohort, column, value, steps):
    rows = read_plan(cohort).manifest.rows
    edited = [row._replace(**{column: value}) if row.slide_id == "s1" else row for row in rows]
    hashed = ("mask", "tile", "embed", "split", "evaluate", "report")
    assert [step for step in hashed if rows_hash(rows, step) != rows_hash(edited, step)] == steps


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({}, "no settings given; copy configs/default.yaml"),
        ({"tiles": {}}, "unknown key 'tiles' (did you mean 'tile'?)"),
        ({"run": {"manifest": "absent.csv"}}, "absent.csv: no such file"),
    ],
)
def test_what_cannot_be_planned_is_bad_input(config, told):
    with pytest.raises(BadInput) as caught:
        read_plan(config)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("edits", "told"),
    [
        ({"split": {"folds": 6}}, "the usable cases are: normal 5, tumor 5; set it to 5 or fewer"),
        ({"embed": {"encoder": "stain_textur"}}, "unknown encoder 'stain_textur'; .* mean 'stain_texture'"),
        (
            {"embed": {"encoder": "torchvision:mobilenet_v2", "weights": "gone.pt"}},
            "gone.pt: no such weight file; correct embed.weights",
        ),
        ({"mask": {"edited_dir": "gone"}}, "mask.edited_dir: gone is no folder"),
        ({"run": {"results_dir": "{a}"}}, "braces in paths, .* wildcards: {a}; rename them"),
        ({"run": {"results_dir": "/dev/null/out"}}, "run.results_dir: /dev/null is a file"),
    ],
)
def test_what_would_fail_hours_later_is_refused_in_the_plan(cohort, edits, told):
    config = {section: {**cohort.get(section, {}), **values} for section, values in edits.items()}
    with pytest.raises(BadInput, match=told):
        read_plan({**cohort, **config})


def test_three_classes_and_the_schedule_of_two_are_refused_in_the_plan(cohort, tmp_path):
    rows = [f"s{index},s{index}.tif,{'abc'[index % 3]},p{index}" for index in range(10)]
    (tmp_path / "slides.csv").write_text("\n".join(["slide_id,path,label,case_id", *rows]) + "\n")
    weno = {"schedule": "released", "pseudo_label": "minmax_global"}
    config = {**cohort, "split": {"folds": 3}}
    alone = read_plan({**config, "train": {"recipes": ["abmil"], "weno": weno}})
    assert alone.manifest.classes == ("a", "b", "c")
    with pytest.raises(BadInput, match=r"released knows two classes, found 3 \(a, b, c\); set it to joint"):
        read_plan({**config, "train": {"weno": weno}})


def test_three_classes_and_a_recipe_of_two_are_refused_in_the_plan(cohort, tmp_path):
    rows = [f"s{index},s{index}.tif,grade {index % 3},p{index}" for index in range(15)]
    (tmp_path / "slides.csv").write_text("\n".join(["slide_id,path,label,case_id", *rows]) + "\n")
    for index in range(15):
        (tmp_path / f"s{index}.tif").touch()
    classes = {**cohort["run"], "classes": ["grade 0", "grade 1", "grade 2"]}
    with pytest.raises(
        BadInput, match=r"recipe ins needs two classes, found 3 .*; take it out of train.reci"
    ):
        read_plan({"run": classes, "train": {"recipes": ["abmil", "ins"]}})


def test_given_splits_that_leak_are_refused_in_the_plan(cohort, tmp_path):
    manifest = tmp_path / "slides.csv"
    manifest.write_text(manifest.read_text().replace(",p9", ",p0"))
    parts = ["train", "train", "val", "val", "test", "test", "train", "train", "train", "test"]
    table = [f"s{index},{part}" for index, part in enumerate(parts)]
    (tmp_path / "folds.csv").write_text("\n".join(["slide_id,fold_0", *table]))
    with pytest.raises(BadInput, match=r"fold 0 leaks: .* p0 \(train and test\)"):
        read_plan({**cohort, "split": {"given": str(tmp_path / "folds.csv")}})


def test_every_faulty_drawing_is_told_unless_its_tiles_are_made(cohort, tmp_path):
    manifest = tmp_path / "slides.csv"
    lines = [
        line + f",{line.split(',')[0]}.xml" if line[:2] in {"s0", "s9"} else line + ","
        for line in manifest.read_text().splitlines()[1:]
    ]
    manifest.write_text("\n".join(["slide_id,path,label,case_id,annotation", *lines]))
    for name in ("s0", "s9"):
        (tmp_path / f"{name}.xml").write_text("<ASAP_Annotations>")
    config = {**cohort, "run": {**cohort["run"], "results_dir": str(tmp_path / "out")}}
    with pytest.raises(BadInput, match=r"^2 drawings cannot be used: .*s0\.xml: .*s9\.xml: not valid XML"):
        read_plan(config)
    settings = Settings().tile.model_dump(mode="json")
    tables = [tmp_path / f"out/tiles/chunk-{chunk}.csv" for chunk in (0, 2)]
    for table in tables:
        write_status(table, [], stamp("tile", {"tile": settings}))
    assert read_plan(config).folds == 5
    with pytest.raises(BadInput, match="2 drawings"):
        read_plan({**config, "tile": {"positive_names": ["lesion"]}})
    later = tables[1].stat().st_mtime + 10
    os.utime(tmp_path / "s9.xml", (later, later))
    with pytest.raises(BadInput, match=r"^1 drawings cannot be used: .*s9\.xml"):
        read_plan(config)


def test_edited_masks_and_given_splits_are_inputs(cohort, tmp_path):
    masks, splits = tmp_path / "masks", tmp_path / "splits"
    masks.mkdir()
    splits.mkdir()
    (masks / "s5.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    for fold in range(2):
        (splits / f"splits_{fold}.csv").write_text("train,val,test\ns0,s2,s4\ns1,s3,s5\n")
    plan = read_plan({**cohort, "mask": {"edited_dir": str(masks)}, "split": {"given": str(splits)}})
    assert plan.edited_masks(0) == []
    assert plan.edited_masks(1) == [str(masks / "s5.geojson")]
    assert plan.given_split_files() == [str(splits / "splits_0.csv"), str(splits / "splits_1.csv")]
    assert plan.folds == 2


def test_a_distilled_training_waits_for_the_model_it_learns_from(cohort):
    plan = read_plan({**cohort, "train": {"recipes": ["instance", "distill", "weno"]}})
    folder = plan.layout.model("weno", 2, 1)
    assert plan.large_model("distill", 2, 1) == [
        str(folder / "model.safetensors"),
        str(folder / "model.json"),
    ]
    assert plan.large_model("weno", 2, 1) == []


def test_a_recipe_that_distills_needs_the_recipe_it_learns_from(cohort):
    train = {"recipes": ["abmil", "distill"], "distill": {"teacher_recipe": "mhim"}}
    with pytest.raises(BadInput) as caught:
        read_plan({**cohort, "train": train})
    assert str(caught.value) == (
        "recipe distill learns from the models of recipe mhim, which train.recipes (abmil, distill) does not "
        "hold; add it, or change train.distill.teacher_recipe"
    )


def test_slides_in_storage_are_fetched_and_no_part_of_the_state_of_files(cohort, tmp_path):
    plain = read_plan(cohort)
    table = tmp_path / "slides.csv"
    table.write_text(table.read_text().replace("s5,s5.tif", "s5,s3://scans/s5.tif"))
    for tracked in ("hashed", "inputs"):
        cohort["run"]["track_slides"] = tracked
        plan = read_plan(cohort)
        assert [plan.stored_slides(chunk) for chunk in range(3)] == [[], ["s3://scans/s5.tif"], []]
        assert plan.all_stored_slides() == ["s3://scans/s5.tif"]
        assert not [name for name in plan.slide_files(1) if "s5" in name]
    assert plain.all_stored_slides() == []
    assert plain.chunk_hash("mask", 1) != plan.chunk_hash("mask", 1)


def test_in_a_job_the_plan_is_the_same_and_no_file_is_looked_for(cohort, tmp_path):
    whole = read_plan(cohort)
    for slide in tmp_path.glob("*.tif"):
        slide.unlink()
    inside = read_plan(cohort, in_job=True)
    assert (inside.chunks, inside.folds, inside.layout) == (whole.chunks, whole.folds, whole.layout)
    with pytest.raises(BadInput, match="no such file for 10"):
        read_plan(cohort)
