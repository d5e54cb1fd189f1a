"""Sources of reporting items, made up to fit a `RunMaker`'s run: the split, model headers, validation."""

from wsi_kd.bags.splits import Fold
from wsi_kd.core.files import publish_table
from wsi_kd.core.provenance import stamp
from wsi_kd.evaluation.slide_metrics import summarize_slides
from wsi_kd.report.reporting_sources import ReportingSources, SplitFacts

SPLIT = {"folds": 5, "seed": 7, "given": None}


def made_sources(maker, models, metrics):
    """The run that the maker's page shows."""
    return ReportingSources(
        metrics=metrics,
        slides=maker.qualities(),
        splits=made_split(maker),
        models=models,
        headers=tuple(made_header(maker, model) for model in models),
        validation={
            (recipe, score): validation(maker, models, recipe, score)
            for recipe in maker.recipes
            for score in (("teacher", "student") if recipe == "weno" else ("teacher",))
        },
        fingerprints={maker.text(f"slide_{slide}"): f"{slide:064d}" for slide in range(maker.slides)},
        jobs=maker.jobs(),
        git=maker.text("abc"),
    )


def made_split(maker):
    """Each fold tests its own slides and validates on the next one's; the empty slide is in none."""
    parts = [
        tuple(
            maker.text(f"slide_{slide}") for slide in range(maker.slides) if slide // 2 % maker.folds == fold
        )
        for fold in range(maker.folds)
    ]
    folds = tuple(
        Fold((), parts[(fold + 1) % maker.folds] if maker.folds > 1 else (), parts[fold])
        for fold in range(maker.folds)
    )
    cases = {maker.text(f"slide_{slide}"): maker.text(f"case_{slide // 2}") for slide in range(maker.slides)}
    labels = {
        maker.text(f"slide_{slide}"): maker.classes[maker.label(slide)] for slide in range(maker.slides)
    }
    return SplitFacts(
        folds,
        {**cases, maker.text("glass"): maker.text("glass")},
        {**labels, maker.text("glass"): maker.classes[0]},
        SPLIT,
        "cd" * 32,
    )


def write_split(maker, path, section, *, case_of=None):
    """Write the run's split as splits.csv; `case_of` puts slides into other cases."""
    split = made_split(maker)
    rows = []
    for slide_id, case_id in split.case_of.items():
        parts = [
            next((name for name, ids in fold._asdict().items() if slide_id in ids), "excluded")
            for fold in split.folds
        ]
        rows.append([slide_id, (case_of or {}).get(slide_id, case_id), split.label_of[slide_id], *parts])
    header = {**stamp("splits", {"split": section}), "classes": maker.classes}
    publish_table(
        path,
        ["slide_id", "case_id", "label", *(f"fold_{index}" for index in range(maker.folds))],
        rows,
        stamp=header,
    )


def made_header(maker, model):
    """What model.json holds of the facts that are reported."""
    return {
        "recipe": model.recipe,
        "teacher": "gated_abmil",
        "model": {"hidden_dim": 128, "classes": 2},
        "encoder": maker.text("stain_texture"),
        "weights_hash": "ef" * 32,
        "student_pooling": "topk",
        "top_k": 5,
        "sections": {"tile": {"tile_px": 256}},
        "settings": {"train": {"epochs": 8, "learning_rate": 1e-3}},
    }


def validation(maker, models, recipe, score):
    """Of made-up validation slides, 16 a fold."""
    parts = [
        maker.part(
            model,
            [
                maker.row(slide, recipe=recipe, seed=model.seed)
                for slide in range(1000 + 100 * model.fold, 1016 + 100 * model.fold)
            ],
            score,
        )
        for model in models
        if model.recipe == recipe
    ]
    return summarize_slides(parts, samples=100, confidence=0.95, seed=0)
