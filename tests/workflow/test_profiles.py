"""The profiles and the container recipe: what they name exists, and what they promise of each other is so."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from snakemake_runs import ROOT

PROFILES = ROOT / "workflow/profiles"
CONTAINERFILE = ROOT / "workflow/envs/Containerfile"
SHARED_KEYS = ("rerun-triggers", "rerun-incomplete", "nolock", "show-failed-logs")


def profile(name: str) -> dict:
    return yaml.safe_load((PROFILES / name / "config.yaml").read_text())


def rule_names() -> set[str]:
    texts = [path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk")]
    return {name for text in texts for name in re.findall(r"^rule (\w+):", text, re.MULTILINE)}


def rule_resources() -> dict[str, dict[str, int]]:
    """Memory and time that the rules themselves ask for."""
    found = {}
    for path in (ROOT / "workflow/rules").glob("*.smk"):
        for block in re.split(r"^rule ", path.read_text(), flags=re.MULTILINE)[1:]:
            numbers = re.findall(r"^ +(mem_mb|runtime)=(\d+),", block, re.MULTILINE)
            found[block.split(":")[0]] = {key: int(value) for key, value in numbers}
    return found


@pytest.mark.parametrize("name", ["slurm", "s3", "kubernetes"])
def test_what_makes_a_rerun_is_the_same_in_every_profile(name):
    """Snakemake reads one profile of a workflow, so each must repeat these."""
    default = profile("default")
    assert {key: profile(name)[key] for key in SHARED_KEYS} == {key: default[key] for key in SHARED_KEYS}


def test_the_slurm_profile_names_every_rule_and_no_other():
    slurm = profile("slurm")
    assert set(slurm["groups"]) < rule_names()
    assert set(slurm["set-threads"]) < rule_names()
    assert set(slurm["set-resources"]) | {"check_status"} == rule_names()


def test_memory_and_time_grow_with_the_attempt_from_no_less_than_the_rule_asks_for():
    slurm = profile("slurm")
    for rule, asked in rule_resources().items():
        given = {**slurm["default-resources"], **slurm["set-resources"].get(rule, {})}
        for attempt in (1, 2, 3):
            needed = {key: eval(str(given[key]), {"attempt": attempt}) for key in asked}
            assert all(needed[key] >= asked[key] for key in asked), (rule, attempt)
        assert eval(str(given["mem_mb"]), {"attempt": 3}) == 3 * eval(str(given["mem_mb"]), {"attempt": 1})


def test_jobs_with_a_card_go_to_the_partition_that_has_them():
    rules = profile("slurm")["set-resources"]
    with_card = {rule for rule, asked in rules.items() if asked.get("gpu")}
    assert with_card == {"embed", "train", "predict"}
    assert {rule for rule, asked in rules.items() if asked.get("slurm_partition") == "gpu"} == with_card


def test_a_run_without_accounting_does_not_wait_for_ever():
    """With sacct and no accounting it would; squeue is asked often enough for the MinJobAge that it needs."""
    slurm = profile("slurm")
    assert slurm["slurm-status-command"] == "squeue"
    assert 3 * slurm["slurm-init-seconds-before-status-checks"] <= 120


def test_snakemake_takes_every_option_of_the_profiles_without_plugins():
    """Those of plugins are known only where the plugin is: tests/cluster runs them."""
    from snakemake.cli import get_argument_parser

    known = {option for action in get_argument_parser()._actions for option in action.option_strings}
    for name in ("default", "slurm", "s3", "kubernetes"):
        own = {f"--{key}" for key in profile(name) if not key.startswith(("slurm-", "storage-s3-"))}
        assert own <= known, name


def test_the_pods_run_commands_that_exist_on_files_that_the_image_holds():
    slides, models = (
        yaml.safe_load((PROFILES / "kubernetes" / name).read_text())
        for name in ("slides.yaml", "models.yaml")
    )
    pods = [job["spec"]["template"]["spec"] for job in (slides, models)]
    assert pods[0]["volumes"] == pods[1]["volumes"]
    assert pods[0]["containers"][0]["image"] == pods[1]["containers"][0]["image"]
    command = " ".join(pods[0]["containers"][0]["args"])
    assert command.startswith(
        "for step in mask tile embed; do wsi-kd $step --config my.yaml --chunk $JOB_COMPLETION"
    )
    named = [argument.split("=")[1] for argument in pods[1]["containers"][0]["args"]]
    inside = [Path(path).relative_to("/opt/wsi_kd") for path in named if path.startswith("/")]
    assert [(ROOT / path).exists() for path in inside] == [True, True]
    user = re.search(r"^RUN useradd --uid (\d+)", CONTAINERFILE.read_text(), re.MULTILINE)
    assert {pod["securityContext"]["runAsUser"] for pod in pods} == {int(user[1])}


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"\\\n", " ", CONTAINERFILE.read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [tuple(line.split(maxsplit=1)) for line in lines]


def test_the_container_copies_files_that_are_in_the_repository():
    copied = [path for what, rest in instructions() if what == "COPY" for path in rest.split()[:-1]]
    listed = subprocess.run(
        ["git", "ls-files", "--error-unmatch", *copied], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert listed.returncode == 0, listed.stderr
    needed = {"pyproject.toml", "constraints.txt", "Snakefile", "wsi_kd", "workflow", "configs"}
    assert needed <= set(copied)


def test_the_container_has_the_versions_of_constraints_txt_and_no_other():
    """Every pip call is constrained, and no version stands in the recipe that constraints.txt lacks."""
    runs = [rest for what, rest in instructions() if what == "RUN"]
    calls = [call for line in runs for call in line.split("&&") if "pip install" in call]
    assert calls
    assert all("--constraint constraints.txt" in call for call in calls)
    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    )
    told = re.findall(r"([\w.-]+)==([\w.]+)", "\n".join(runs))
    assert all(pins.get(name) == version for name, version in told)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    asked = re.findall(r'"\.\[([\w,-]+)\]"', "\n".join(calls))
    assert asked
    assert {extra for names in asked for extra in names.split(",")} <= set(extras)
    for extra in {extra for names in asked for extra in names.split(",")}:
        assert all(re.split(r"[\[<>=~! ]", need)[0] in pins for need in extras[extra]), extra


def test_the_container_is_no_root_and_tells_the_packages_version():
    from wsi_kd import __version__

    users = [rest for what, rest in instructions() if what == "USER"]
    assert users
    assert users[-1] not in {"root", "0"}
    assert instructions().index(("USER", users[-1])) > max(
        index for index, (what, _) in enumerate(instructions()) if what == "RUN"
    )
    images = re.findall(r"wsi_kd:([\d.]+)", CONTAINERFILE.read_text())
    assert set(images) == {__version__}
