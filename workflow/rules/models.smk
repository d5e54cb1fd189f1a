# Features -> models and their scores, one job for each recipe, seed and fold.


rule split:
    input:
        status=every_chunk("features"),
        given=given_splits,
    output:
        splits=f"{RESULTS}/splits.csv",
        status=f"{RESULTS}/status.csv",
    log:
        f"{RESULTS}/logs/split.log",
    benchmark:
        f"{RESULTS}/benchmarks/split.tsv"
    conda:
        "../envs/wsi_kd.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        settings=settings_of("split"),
        schemas=schemas_written("split"),
        rows=all_rows_of("split"),
    message:
        "split: dealing the cases into train, val and test"
    shell:
        "wsi-kd split --settings {params.settings:q} --rows-hash {params.rows} &> {log:q}"


rule train:
    input:
        splits=rules.split.output.splits,
        features=every_chunk("features"),
        large=large_model,
    output:
        model=f"{RESULTS}/models/{{recipe}}/seed{{seed}}/fold{{fold}}/model.safetensors",
        header=f"{RESULTS}/models/{{recipe}}/seed{{seed}}/fold{{fold}}/model.json",
        last=f"{RESULTS}/models/{{recipe}}/seed{{seed}}/fold{{fold}}/last.safetensors",
        last_header=f"{RESULTS}/models/{{recipe}}/seed{{seed}}/fold{{fold}}/last.json",
        history=f"{RESULTS}/models/{{recipe}}/seed{{seed}}/fold{{fold}}/history.csv",
    log:
        f"{RESULTS}/logs/train/{{recipe}}-seed{{seed}}-fold{{fold}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train/{{recipe}}-seed{{seed}}-fold{{fold}}.tsv"
    conda:
        "../envs/wsi_kd.yaml"
    threads: TRAIN.processes
    resources:
        mem_mb=8000 * TRAIN.processes,
        runtime=480,
        gpu=cards_of("train") * TRAIN.processes,
    params:
        settings=train_settings,
        schemas=schemas_written("train"),
    message:
        "train: {wildcards.recipe}, seed {wildcards.seed}, fold {wildcards.fold}"
    shell:
        "wsi-kd train --recipe {wildcards.recipe} --seed {wildcards.seed} --fold {wildcards.fold}"
        " --settings {params.settings:q} &> {log:q}"


rule predict:
    input:
        model=rules.train.output.model,
        header=rules.train.output.header,
        splits=rules.split.output.splits,
    output:
        predictions=f"{RESULTS}/predictions/{{recipe}}/seed{{seed}}/fold{{fold}}/predictions.csv",
        last=f"{RESULTS}/predictions/{{recipe}}/seed{{seed}}/fold{{fold}}/last/predictions.csv",
    log:
        f"{RESULTS}/logs/predict/{{recipe}}-seed{{seed}}-fold{{fold}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/predict/{{recipe}}-seed{{seed}}-fold{{fold}}.tsv"
    conda:
        "../envs/wsi_kd.yaml"
    threads: 1
    resources:
        mem_mb=8000,
        runtime=120,
        gpu=cards_of("predict"),
    params:
        settings=settings_of("predict"),
        schemas=schemas_written("predict"),
    message:
        "predict: {wildcards.recipe}, seed {wildcards.seed}, fold {wildcards.fold}"
    shell:
        "wsi-kd predict --recipe {wildcards.recipe} --seed {wildcards.seed} --fold {wildcards.fold}"
        " --settings {params.settings:q} &> {log:q}"
