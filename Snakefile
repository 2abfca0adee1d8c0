# The whole way of the data, as one DAG. What it makes is decided by one config file:
#   snakemake pretrain_all --cores 8 --configfile config/samples.yaml        (default: config/demo.yaml)
# Every path carries a digest of all that determines its bytes, and every input is `ancient`: nothing rests on file
# times. Only the small files written last are declared; stores and weights are never Snakemake's to delete.

from pipeline.workflow import open_workflow

W = open_workflow(workflow)
ARGS = W.arguments
WORK = W.workdir


localrules:
    pretrain_all,
    features_all,


rule pretrain_all:
    message:
        "pretrained: " + ", ".join(W.plan.runs)
    input:
        ancient(W.plan.lot_paths("scans", "views", "features")),
        ancient(W.plan.run_markers()),


rule features_all:
    message:
        "the cache is complete"
    input:
        ancient(W.plan.lot_paths("scans", "views", "features")),


rule scans:
    message:
        "scans {wildcards.lot}: points into the scan store"
    output:
        f"{WORK}/lots/scans/{{lot}}.json",
    log:
        f"{WORK}/logs/scans/{{lot}}.log",
    benchmark:
        f"{WORK}/benchmarks/scans/{{lot}}.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    shell:
        "griddle scans {ARGS} --lot {wildcards.lot} 2>&1 | tee {log:q}"


rule labels:
    message:
        "labels {wildcards.lot}: classes into the label store"
    input:
        lambda w: ancient(W.plan.before("labels", w.lot)),
    output:
        f"{WORK}/lots/labels/{{lot}}.json",
    log:
        f"{WORK}/logs/labels/{{lot}}.log",
    benchmark:
        f"{WORK}/benchmarks/labels/{{lot}}.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    shell:
        "griddle scans --labels {ARGS} --lot {wildcards.lot} 2>&1 | tee {log:q}"


rule views:
    message:
        "views {wildcards.lot}: points to pixels, voxels and neighbours into the view store"
    input:
        lambda w: ancient(W.plan.before("views", w.lot)),
    output:
        f"{WORK}/lots/views/{{lot}}.json",
    log:
        f"{WORK}/logs/views/{{lot}}.log",
    benchmark:
        f"{WORK}/benchmarks/views/{{lot}}.tsv"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=240,
    shell:
        "griddle views {ARGS} --lot {wildcards.lot} 2>&1 | tee {log:q}"


rule features:
    message:
        "features {wildcards.lot}: patch grids of the teacher into the feature store"
    output:
        f"{WORK}/lots/features/{{lot}}.json",
    log:
        f"{WORK}/logs/features/{{lot}}.log",
    benchmark:
        f"{WORK}/benchmarks/features/{{lot}}.tsv"
    threads: 4
    resources:
        mem_mb=8000,
        runtime=480,
        gpu=W.gpu,
    shell:
        "griddle features {ARGS} --lot {wildcards.lot} --threads {threads} 2>&1 | tee {log:q}"


rule pretrain:
    message:
        "pretrain {wildcards.run}"
    input:
        lambda w: ancient(W.plan.before_run(w.run)),
    output:
        f"{WORK}/runs/{{run}}/done.json",
    log:
        f"{WORK}/logs/pretrain/{{run}}.log",
    benchmark:
        f"{WORK}/benchmarks/pretrain/{{run}}.tsv"
    threads: 4
    resources:
        mem_mb=16000,
        runtime=2880,
        gpu=W.gpu,
    shell:
        "griddle pretrain {ARGS} --run {wildcards.run} --threads {threads} 2>&1 | tee {log:q}"
