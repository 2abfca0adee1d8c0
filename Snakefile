# The whole way of the data, as one DAG. What it makes is decided by one config file:
#   snakemake pretrain_all --cores 8 --configfile config/samples.yaml        (default: config/demo.yaml)
# Every path carries a digest of all that determines its bytes, and a job that is done names no inputs: nothing rests on
# file times. Only the small files written last are declared; stores and weights are never Snakemake's to delete.

from pipeline.common.run_files import DONE
from pipeline.plan.cost.teacher_memory import features_mem_mb
from pipeline.report.gather import before_report, report_marker
from stages.workflow import before_jobs_start, open_workflow

W = open_workflow(workflow)
WORK = W.workdir


wildcard_constraints:
    lot="[^/]+",
    run="[^/]+",
    probe="[^/]+",
    finetune="[^/]+",
    stats="[^/]+",


localrules:
    pretrain_all,
    features_all,
    probe_all,
    finetune_all,
    report,


onstart:
    before_jobs_start(workflow, W.plan)


rule pretrain_all:
    message:
        "pretrained: " + ", ".join(W.plan.runs)
    input:
        W.plan.lot_paths("scans", "labels", "views", "full_scans", "features"),
        W.plan.run_markers(),
        W.plan.probe_markers(),
        [report_marker(W.plan)] if W.plan.probe_rows else [],


rule features_all:
    message:
        "the cache is complete"
    input:
        W.plan.lot_paths("scans", "views", "features"),


rule probe_all:
    message:
        "probed: every student that is pretrained, and its baselines"
    input:
        W.plan.probe_markers(startable=True),


rule scans:
    message:
        "scans {wildcards.lot}: points into the scan store"
    output:
        f"{WORK}/lots/scans/{{lot}}.json",
    log:
        f"{WORK}/logs/scans/{{lot}}.log",
    benchmark:
        f"{WORK}/benchmarks/scans/{{lot}}.tsv"
    threads: 4
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        arguments=W.arguments,
    shell:
        "griddle --log {log:q} scans {params.arguments} --lot {wildcards.lot} --threads {threads}"


rule labels:
    message:
        "labels {wildcards.lot}: classes into the label store"
    input:
        lambda w: W.plan.before("labels", w.lot),
    output:
        f"{WORK}/lots/labels/{{lot}}.json",
    log:
        f"{WORK}/logs/labels/{{lot}}.log",
    benchmark:
        f"{WORK}/benchmarks/labels/{{lot}}.tsv"
    threads: 4
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        arguments=W.arguments,
    shell:
        "griddle --log {log:q} scans --labels {params.arguments} --lot {wildcards.lot} --threads {threads}"


rule stats:
    message:
        "stats {wildcards.stats}: how intensities are spread"
    input:
        lambda w: W.plan.before_stats(w.stats),
    output:
        f"{WORK}/stats/{{stats}}.json",
    log:
        f"{WORK}/logs/stats/{{stats}}.log",
    benchmark:
        f"{WORK}/benchmarks/stats/{{stats}}.tsv"
    threads: 4
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        arguments=W.arguments,
    shell:
        "griddle --log {log:q} stats {params.arguments} --stats {wildcards.stats} --threads {threads}"


rule views:
    message:
        "views {wildcards.lot}: points to pixels, voxels and neighbours into the view store"
    input:
        lambda w: W.plan.before("views", w.lot),
    output:
        f"{WORK}/lots/views/{{lot}}.json",
    log:
        f"{WORK}/logs/views/{{lot}}.log",
    benchmark:
        f"{WORK}/benchmarks/views/{{lot}}.tsv"
    threads: 4
    resources:
        mem_mb=4000,
        runtime=240,
    params:
        arguments=W.arguments,
    shell:
        "griddle --log {log:q} views {params.arguments} --lot {wildcards.lot} --threads {threads}"


rule full_scans:
    message:
        "full scans {wildcards.lot}: whole scans, as probes are scored on them",
    input:
        lambda w: W.plan.before("full_scans", w.lot),
    output:
        f"{WORK}/lots/full_scans/{{lot}}.json",
    log:
        f"{WORK}/logs/full_scans/{{lot}}.log",
    benchmark:
        f"{WORK}/benchmarks/full_scans/{{lot}}.tsv"
    threads: 4
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        arguments=W.arguments,
    shell:
        "griddle --log {log:q} views --full-scans {params.arguments} --lot {wildcards.lot} --threads {threads}"


rule features:
    message:
        "features {wildcards.lot}: patch grids of the teacher into the feature store"
    output:
        f"{WORK}/lots/features/{{lot}}.json",
    log:
        f"{WORK}/logs/features/{{lot}}.log",
    benchmark:
        f"{WORK}/benchmarks/features/{{lot}}.tsv"
    priority: 1  # what others wait for goes first
    threads: 4
    resources:
        mem_mb=lambda w, threads: features_mem_mb(W.plan.lot("features", w.lot).store.source, threads),
        runtime=480,
        gpu=W.gpu,
    params:
        arguments=W.arguments,
    shell:
        "griddle --log {log:q} features {params.arguments} --lot {wildcards.lot} --threads {threads}"


rule pretrain:
    message:
        "pretrain {wildcards.run}"
    input:
        lambda w: W.plan.before_run(w.run),
    output:
        f"{WORK}/runs/{{run}}/{DONE}",
    log:
        f"{WORK}/logs/pretrain/{{run}}.log",
    benchmark:
        f"{WORK}/benchmarks/pretrain/{{run}}.tsv"
    priority: 1  # what others wait for goes first
    threads: 4
    resources:
        mem_mb=16000,
        runtime=2880,
        gpu=W.gpu,
    params:
        arguments=W.arguments,
    shell:
        "griddle --log {log:q} pretrain {params.arguments} --run {wildcards.run} --threads {threads}"


rule probe:
    message:
        "probe {wildcards.probe} of {wildcards.run}"
    input:
        lambda w: W.plan.before_labelled(f"runs/{w.run}/probe/{w.probe}"),
    output:
        f"{WORK}/runs/{{run}}/probe/{{probe}}/{DONE}",
    log:
        f"{WORK}/logs/probe/{{run}}/{{probe}}.log",
    benchmark:
        f"{WORK}/benchmarks/probe/{{run}}/{{probe}}.tsv"
    threads: 4
    resources:
        mem_mb=16000,
        runtime=1440,
        gpu=W.gpu,
    params:
        arguments=W.arguments,
    shell:
        "griddle --log {log:q} probe {params.arguments} --run {wildcards.run} --probe {wildcards.probe} --threads {threads}"


rule baseline:
    message:
        "baseline {wildcards.probe}"
    input:
        lambda w: W.plan.before_labelled(f"runs/baselines/{w.probe}"),
    output:
        f"{WORK}/runs/baselines/{{probe}}/{DONE}",
    log:
        f"{WORK}/logs/baselines/{{probe}}.log",
    benchmark:
        f"{WORK}/benchmarks/baselines/{{probe}}.tsv"
    threads: 4
    resources:
        mem_mb=16000,
        runtime=1440,
        gpu=W.gpu,
    params:
        arguments=W.arguments,
    shell:
        "griddle --log {log:q} probe {params.arguments} --baseline {wildcards.probe} --threads {threads}"


include: f"{W.rules}/finetune.smk"


rule report:
    message:
        "report: the table of all students, probes and baselines"
    input:
        ancient(before_report(W.plan)),  # the report's name holds the ids of all that it shows
    output:
        report_marker(W.plan),
    log:
        f"{WORK}/logs/report.log",
    benchmark:
        f"{WORK}/benchmarks/report.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        arguments=W.arguments,
    shell:
        "griddle --log {log:q} report {params.arguments} --without-finetunings"
