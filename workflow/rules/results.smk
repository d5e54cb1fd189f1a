# Scores -> metrics, the page, and the final word on failed slides.


rule evaluate:
    input:
        predictions=every_model("predictions", "predictions.csv"),
        splits=rules.split.output.splits,
        status=rules.split.output.status,
    output:
        metrics=report(
            f"{RESULTS}/evaluation/metrics.json",
            caption="../report/metrics.rst",
            category="Results",
            labels={"what": "metrics with intervals", "format": "JSON"},
        ),
        predictions=f"{RESULTS}/evaluation/predictions.csv",
    log:
        f"{RESULTS}/logs/evaluate.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate.tsv"
    conda:
        "../envs/wsi_kd.yaml"
    threads: 1
    resources:
        mem_mb=8000,
        runtime=120,
    params:
        settings=settings_of("evaluate"),
        schemas=schemas_written("evaluate"),
        rows=all_rows_of("evaluate"),
    message:
        "evaluate: metrics and their intervals"
    shell:
        "wsi-kd evaluate --settings {params.settings:q} --rows-hash {params.rows} &> {log:q}"


rule report:
    input:
        metrics=rules.evaluate.output.metrics,
        predictions=every_model("predictions", "predictions.csv"),
        histories=every_model("models", "history.csv"),
        status=rules.split.output.status,
        stored=all_stored_slides,
        precision=checked_precision,
    output:
        page=report(
            f"{RESULTS}/report/index.html",
            caption="../report/page.rst",
            category="Results",
            labels={"what": "the page", "format": "HTML"},
        ),
        metrics=f"{RESULTS}/report/metrics.json",
        tables=[
            f"{RESULTS}/report/{table}.csv"
            for table in ("predictions", "training", "slides", "tiles", "timings")
        ],
    log:
        f"{RESULTS}/logs/report.log",
    benchmark:
        f"{RESULTS}/benchmarks/report.tsv"
    conda:
        "../envs/wsi_kd.yaml"
    threads: 1
    resources:
        mem_mb=8000,
        runtime=120,
    params:
        settings=settings_of("report"),
        schemas=schemas_written("report"),
        rows=all_rows_of("report"),
    message:
        "report: drawing the page"
    shell:
        "wsi-kd report --settings {params.settings:q} --rows-hash {params.rows} &> {log:q}"


rule check_status:
    input:
        status=rules.split.output.status,
        page=rules.report.output.page,
    output:
        checked=touch(f"{RESULTS}/checked"),
    log:
        f"{RESULTS}/logs/check_status.log",
    benchmark:
        f"{RESULTS}/benchmarks/check_status.tsv"
    conda:
        "../envs/wsi_kd.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        settings=settings_of("check_status"),
        schemas=schemas_written("check_status"),
    message:
        "check_status: may this run count as done?"
    shell:
        "wsi-kd check-status --settings {params.settings:q} &> {log:q}"
