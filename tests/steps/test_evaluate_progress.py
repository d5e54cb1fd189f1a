"""evaluate tells how far it is: while it reads features, and while it measures recipes."""

from contextlib import contextmanager

from scored_runs import Run


def test_every_slide_and_every_recipe_is_counted(tmp_path, monkeypatch):
    bars = {}

    @contextmanager
    def watched(what, *, total, unit):
        bars[what, unit] = [0, total]

        def advance(count=1, **_):
            bars[what, unit][0] += count

        yield advance

    monkeypatch.setattr("wsi_kd.steps.evaluate.progress", watched)
    run = Run(tmp_path)
    run.evaluate([run.predict("weno", fold=fold) for fold in (0, 1)])
    assert bars == {("evaluate", "slides"): [23, 23], ("evaluate", "recipes"): [1, 1]}
