# Slides -> features, one job for each `run.slides_per_job` manifest rows. A slide that fails ends with a status in the
# chunk's table; the job fails only if the machine does.


rule mask:
    input:
        slides=slide_files,
        stored=stored_slides,
        edited=edited_masks,
        network=mask_network,
    output:
        status=f"{RESULTS}/masks/chunk-{{chunk}}.csv",
    log:
        f"{RESULTS}/logs/mask/chunk-{{chunk}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/mask/chunk-{{chunk}}.tsv"
    conda:
        "../envs/wsi_kd.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=120,
        gpu=cards_of_mask(),
    params:
        settings=settings_of("mask"),
        schemas=schemas_written("mask"),
        rows=chunk_rows_of("mask"),
        slides=slides_state,
    message:
        "mask: finding the tissue of chunk {wildcards.chunk}"
    shell:
        "wsi-kd mask --settings {params.settings:q} --chunk {wildcards.chunk} --rows-hash {params.rows} &> {log:q}"


rule tile:
    input:
        status=rules.mask.output.status,
        annotations=annotation_files,
    output:
        status=f"{RESULTS}/tiles/chunk-{{chunk}}.csv",
    log:
        f"{RESULTS}/logs/tile/chunk-{{chunk}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/tile/chunk-{{chunk}}.tsv"
    conda:
        "../envs/wsi_kd.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        settings=settings_of("tile"),
        schemas=schemas_written("tile"),
        rows=chunk_rows_of("tile"),
        annotations=annotations_state,
    message:
        "tile: laying the grid on chunk {wildcards.chunk}"
    shell:
        "wsi-kd tile --settings {params.settings:q} --chunk {wildcards.chunk} --rows-hash {params.rows} &> {log:q}"


rule stain:
    input:
        status=every_chunk("tiles"),
        target=stain_target,
        stored=all_stored_slides,
    output:
        stain=f"{RESULTS}/stain/stain.json",
    log:
        f"{RESULTS}/logs/stain.log",
    benchmark:
        f"{RESULTS}/benchmarks/stain.tsv"
    conda:
        "../envs/wsi_kd.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        settings=settings_of("stain"),
        schemas=schemas_written("stain"),
        rows=all_rows_of("stain"),
    message:
        "stain: fitting the stains of the cohort"
    shell:
        "wsi-kd stain --settings {params.settings:q} --rows-hash {params.rows} &> {log:q}"


rule embed:
    input:
        status=rules.tile.output.status,
        stored=stored_slides,
        stain=stain_fit,
        target=stain_target,
        weights=encoder_weights,
    output:
        status=f"{RESULTS}/features/chunk-{{chunk}}.csv",
    log:
        f"{RESULTS}/logs/embed/chunk-{{chunk}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/embed/chunk-{{chunk}}.tsv"
    conda:
        "../envs/wsi_kd.yaml"
    threads: 4
    resources:
        mem_mb=16000,
        runtime=720,
        gpu=cards_of("embed"),
    params:
        settings=settings_of("embed"),
        schemas=schemas_written("embed"),
        rows=chunk_rows_of("embed"),
    message:
        "embed: describing the tiles of chunk {wildcards.chunk}"
    shell:
        "wsi-kd embed --settings {params.settings:q} --chunk {wildcards.chunk} --rows-hash {params.rows} &> {log:q}"


rule qc:
    input:
        status=every_chunk("features"),
        stored=all_stored_slides,
    output:
        page=report(
            f"{RESULTS}/qc/index.html",
            caption="../report/qc.rst",
            category="Slides",
            labels={"what": "thumbnails, status, quality", "format": "HTML"},
        ),
        table=f"{RESULTS}/qc/qc.csv",
    log:
        f"{RESULTS}/logs/qc.log",
    benchmark:
        f"{RESULTS}/benchmarks/qc.tsv"
    conda:
        "../envs/wsi_kd.yaml"
    threads: 4
    resources:
        mem_mb=4000,
        runtime=240,
    params:
        settings=settings_of("qc"),
        schemas=schemas_written("qc"),
        rows=all_rows_of("qc"),
    message:
        "qc: drawing the slides"
    shell:
        "wsi-kd qc --settings {params.settings:q} --rows-hash {params.rows} &> {log:q}"
