# Finetunings: long trainings that a config's `finetunes` ask for. `pretrain_all` does not run them, `finetune_all` does.


rule finetune_all:
    message:
        "finetuned: every student that the config wants finetuned"
    input:
        W.plan.run_markers(),
        W.plan.probe_markers(),
        W.plan.finetune_markers(),
        [report_marker(W.plan, finetuned=True)] if W.plan.finetune_rows else [],


rule finetune:
    message:
        "finetune {wildcards.finetune} of {wildcards.run}"
    input:
        lambda w: W.plan.before_labelled(f"runs/{w.run}/finetune/{w.finetune}"),
    output:
        f"{WORK}/runs/{{run}}/finetune/{{finetune}}/{DONE}",
    log:
        f"{WORK}/logs/finetune/{{run}}/{{finetune}}.log",
    benchmark:
        f"{WORK}/benchmarks/finetune/{{run}}/{{finetune}}.tsv"
    threads: 4
    resources:
        mem_mb=16000,
        runtime=2880,
        gpu=W.gpu,
    params:
        arguments=W.arguments,
    shell:
        "griddle --log {log:q} finetune {params.arguments} --run {wildcards.run} --finetune {wildcards.finetune} "
        "--threads {threads}"


rule from_nothing:
    message:
        "finetune {wildcards.finetune} from nothing"
    input:
        lambda w: W.plan.before_labelled(f"runs/from_nothing/{w.finetune}"),
    output:
        f"{WORK}/runs/from_nothing/{{finetune}}/{DONE}",
    log:
        f"{WORK}/logs/from_nothing/{{finetune}}.log",
    benchmark:
        f"{WORK}/benchmarks/from_nothing/{{finetune}}.tsv"
    threads: 4
    resources:
        mem_mb=16000,
        runtime=2880,
        gpu=W.gpu,
    params:
        arguments=W.arguments,
    shell:
        "griddle --log {log:q} finetune {params.arguments} --from-nothing {wildcards.finetune} --threads {threads}"


if W.plan.finetune_rows:

    rule report_finetuned:
        message:
            "report: the table of all students, probes, baselines and finetunings"
        input:
            ancient(before_report(W.plan, finetuned=True)),
        output:
            report_marker(W.plan, finetuned=True),
        log:
            f"{WORK}/logs/report_finetuned.log",
        benchmark:
            f"{WORK}/benchmarks/report_finetuned.tsv"
        threads: 1
        resources:
            mem_mb=1000,
            runtime=10,
        params:
            arguments=W.arguments,
        shell:
            "griddle --log {log:q} report {params.arguments}"
