"""The four kinds of pages with one hostile text in every place that a cohort, its files or a user names."""

from collections import Counter
from collections.abc import Mapping
from functools import cache
from html.parser import HTMLParser
from typing import Any, Final

from drawn_claims import drawn_claim, good
from hostile_texts import PAYLOADS
from report_runs import RunMaker

from wsi_kd.claims.claim import Series
from wsi_kd.claims.measured import measure
from wsi_kd.core.provenance import RESEARCH_ONLY, stamp
from wsi_kd.core.records import SlideStatus, StatusRow
from wsi_kd.report.build import build_page
from wsi_kd.report.claims import ClaimRecord, claims_page
from wsi_kd.report.qc_page import render_qc
from wsi_kd.report.qc_record import QcSlide, QcThumbnail
from wsi_kd.report.render import render_page
from wsi_kd.report.runs_page import runs_page
from wsi_kd.slides.facts import SlideFacts

MORE: Final = (
    "<img src=x onerror=alert(1)//",
    "<svg><script>alert(1)</script></svg>",
    "<math><mi xlink:href=javascript:alert(1)>x",
    "<body onload=alert(1)>",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "<object data=data:text/html;base64,PHNjcmlwdD4=>",
    "<base href=//evil.example>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "<link rel=stylesheet href=//evil.example/x.css>",
    "<form action=//evil.example><input autofocus onfocus=alert(1)>",
    "<details open ontoggle=alert(1)>",
    "<template><script>alert(1)</script></template>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<textarea></textarea><script>alert(1)</script>",
    "]]><script>alert(1)</script>",
    "--><script>alert(1)</script>",
    "&#60;script&#62;alert(1)&#60;/script&#62;",
    "&quot;&gt;&lt;img src=x&gt;",
    "\\u003cscript\\u003e",
    "\x0bonclick=alert(1) \x0c",
    '" style="position:fixed;background:url(//evil.example)',
    "' autofocus onfocus='alert(1)",
    "`onmouseover=alert(1)`",
    '=HYPERLINK("http://evil.example")',
    "a\u0000<script>",
    "\ud83d<b>\udc00",
    "\u2066\u2067<b>\u2069",
    "<scr\u0000ipt>alert(1)</scr\u0000ipt>",
)
EVERY: Final = (*PAYLOADS, *MORE)
PAINTED: Final = {"style", "fill", "stroke", "clip-path", "filter", "mask", "marker-start", "marker-end"}
"""Attributes whose value may name a picture; what stands in `alt` or `title` is read to people alone."""
MARK: Final = "\ue000mark\ue001"
KINDS: Final = ("report", "comparison", "quality", "claims")


class Census(HTMLParser):
    """Counts tags with their attributes, charts apart (text may make a line of them longer); keeps values."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.names: Counter[str] = Counter()
        self.chart_names: set[str] = set()
        self.values: list[tuple[str, str]] = []
        self._depth = 0
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = [tag, *(f"{tag}[{name}]" for name, _ in attrs)]
        (self.chart_names if self._depth else self.names).update(found)
        self._depth += tag == "svg"
        self.values += [(name, value or "") for name, value in attrs]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self._depth -= tag == "svg"

    def handle_endtag(self, tag: str) -> None:
        self._depth -= tag == "svg"

    def handle_decl(self, decl: str) -> None:
        self.names[f"!{decl}"] += 1

    def handle_comment(self, data: str) -> None:
        self.names["comment"] += 1

    @property
    def fetched(self) -> list[str]:
        """Addresses of anything outside the page and its own thumbnails."""
        keys = {"src", "href", "data", "action", "poster", "srcset", "xlink:href", "background", "formaction"}
        own = ("#", "data:image/", "thumbnails/")
        found = [value for name, value in self.values if name in keys and not value.startswith(own)]
        painted = (value for name, value in self.values if name in PAINTED)
        return [*found, *(value for value in painted if "url(" in value.replace("url(#", ""))]

    @property
    def handlers(self) -> list[str]:
        """Attributes that would run something."""
        return [name for name, _ in self.values if name.startswith("on") or name in {"style", "srcdoc"}]


def page_with(kind: str, text: str) -> str:
    """A page of one kind, `text` behind every word of it that is not ours."""
    makers = {"report": _report, "comparison": _comparison, "quality": _quality, "claims": _claims}
    return makers[kind](text)


def _report(text: str) -> str:
    return render_page(build_page(swapped(_marked_record(), text)))


@cache
def _marked_record() -> Any:
    """A record with `MARK` behind every text: measured once, for that takes seconds."""
    return RunMaker(text=lambda plain: plain + MARK, recipes=("weno",), folds=1, slides=8).record()


def swapped(value: Any, text: str) -> Any:
    """The same values with `text` in the place of every `MARK`, in keys too."""
    if isinstance(value, str):
        return value.replace(MARK, text)
    if isinstance(value, Mapping):
        return {swapped(key, text): swapped(part, text) for key, part in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(swapped(part, text) for part in value))
    if isinstance(value, list | tuple):
        return type(value)(swapped(part, text) for part in value)
    return value


def _quality(text: str) -> str:
    row = StatusRow(f"P1{text}", SlideStatus.EMPTY, text, "mask", 0, 1.0, 0.25, f"vendor{text}", 1.0)
    name = text.encode("utf-8", "replace").decode()  # no id holds half a character, so no file does
    thumbnail = QcThumbnail(f"thumbnails/P1{name}.jpg", f"thumbnails/P1{name}.svg", 512, 384)
    facts = SlideFacts(*(f"{word}{text}" for word in ("openslide/aperio", "aperio", "AT2", "lens")))
    slide = QcSlide(row, 4000, 3000, facts, f"thumbnail{text}", {"pen": 0.5}, None, thumbnail)
    bare = slide._replace(thumbnail=None, note=f"no thumbnail{text}")
    return render_qc([slide, bare], title=f"A run{text}", research_only=RESEARCH_ONLY)


def _claims(text: str) -> str:
    claim = drawn_claim(good)
    words = ("method", "paper", "claims", "setting", "reference")
    claim = claim._replace(**{name: f"{getattr(claim, name)}{text}" for name in words})
    measured = measure(claim, seeds=2)._replace(seconds=1.0)
    found = measured.found
    renamed = found._replace(
        observed=[one._replace(name=f"{one.name}{text}") for one in found.observed],
        checks=[one._replace(says=f"{one.says}{text}", why=f"few{text}") for one in found.checks],
        series=[Series(f"{one.name}{text}", one.x, one.y) for one in found.series],
        x_label=f"x{text}",
        y_label=f"y{text}",
    )
    record = ClaimRecord(claim, measured._replace(found=renamed))
    return render_page(claims_page([record], git=f"abc{text}", code="f" * 64, seeds=None))


def _comparison(text: str) -> str:
    names = [f"run {number}{text}" for number in range(2)]
    return render_page(runs_page(_compared(names, text)))


def _compared(names: list[str], text: str) -> Any:
    metrics = ("roc_auc", "average_precision", "balanced_accuracy", "sensitivity", "specificity", "f1")
    who = {"recipe": f"weno{text}", "score": "teacher"}
    value = {
        **{"estimate": 0.8, "low": 0.7, "high": 0.9, "confidence": 0.95, "resamples": 100, "redrawn": 0},
        "reason": text,
    }
    difference = {
        **{"estimate": 0.1, "low": -0.1, "high": 0.3, "confidence": 0.95, "p_value": 0.01, "p_holm": 0.02},
        **{"test": "DeLong", "per_seed": [], "reason": text},
        "over_seeds": {"mean": 0.1, "sd": None, "count": 1},
    }
    row = {
        **{"seeds": 1, "validation_slides": 20, "validation": value, "test_slides": 20, "test_cases": 10},
        **{"test": dict.fromkeys(metrics, value), "shared": {}},
    }
    tested = {
        **{"run": names[0], **who, "against_run": names[1], "against_recipe": who["recipe"]},
        **{"against_score": "teacher", "why": f"same{text}", "slides": 20, "cases": 10},
        "metrics": dict.fromkeys(metrics[:3], difference),
    }
    facts = {"recipes": [who["recipe"]], "seeds": [0], "folds": 1, "test_slides": 20, "test_cases": 10}
    beside = {"unlabeled": 0, "split_group": 1, "version": f"1{text}"}
    return {
        **stamp("run_comparison", {}),
        **{
            "classes": [f"normal{text}", f"tumor{text}"],
            "confidence": 0.95,
            "bootstrap_samples": 100,
            "seed": 0,
        },
        "runs": [{"run": name, **facts, **beside} for name in names],
        "leaderboard": [
            {"rank": rank, "run": name, **who, **row} for rank, name in enumerate(names, start=1)
        ],
        **{"shared_slides": [], "shared_by_all": 20, "tests": [tested]},
        "family": {"method": "Holm", "tests": 3},
        "notes": [f"something odd{text}"],
        "differing_settings": {f"tile.tile_px{text}": {name: f"224{text}" for name in names}},
        "research_only": RESEARCH_ONLY,
    }
