"""wsi_kd: slide -> mask -> tile -> embed -> split -> train -> predict -> evaluate -> report.

snakemake -c8 --configfile my.yaml      (my.yaml: a copy of configs/default.yaml)
"""

from snakemake.utils import min_version

min_version("9.5")


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"


localrules:
    all,


rule all:
    default_target: True
    input:
        plan.pages(),
        f"{RESULTS}/checked",


include: f"workflow/rules/{plan.slide_rules}.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/results.smk"
