# Features that another program made -> features, where `adopt.folder` names some: then no slide is read, and this rule
# stands in the place of mask, tile and embed. A slide without features ends with a status in the chunk's table.


rule adopt:
    input:
        features=given_features,
        annotations=annotation_files,
    output:
        status=f"{RESULTS}/features/chunk-{{chunk}}.csv",
    log:
        f"{RESULTS}/logs/adopt/chunk-{{chunk}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/adopt/chunk-{{chunk}}.tsv"
    conda:
        "../envs/wsi_kd.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        settings=settings_of("adopt"),
        schemas=schemas_written("adopt"),
        rows=chunk_rows_of("adopt"),
        annotations=annotations_state,
    message:
        "adopt: taking the given features of chunk {wildcards.chunk}"
    shell:
        "wsi-kd adopt --settings {params.settings:q} --chunk {wildcards.chunk} --rows-hash {params.rows} &> {log:q}"
