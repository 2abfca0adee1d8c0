"""`griddle report`: the table of all students, probes and baselines that are done."""

from __future__ import annotations

from pathlib import Path

import click

from stages.options import json_option, plan_options


@click.command()
@plan_options
@json_option
@click.option("--without-finetunings", is_flag=True, help="Report students, probes and baselines alone.")
def report(
    config_path: str, workdir: Path | None, only: str | None, as_json: bool, without_finetunings: bool
) -> None:
    """Print the table, and write it with the loss curves into <workdir>/report.

    What was done before a dataset grew or shrank is shown, too, and what the dataset has more or less since.
    """
    import json

    from pipeline.common.log import log
    from pipeline.config.load import load_config
    from pipeline.plan.experiment import open_experiment
    from pipeline.plan.results import results_of
    from pipeline.report.gather import gather
    from pipeline.report.page import write_report
    from pipeline.report.text import plain, terminal

    results = results_of(open_experiment(load_config(config_path), workdir, only))
    gathered = gather(results, finetunings=not without_finetunings)
    folder = write_report(results.experiment.workdir, gathered)
    if as_json:
        click.echo(json.dumps({**plain(gathered), "folder": str(folder)}, indent=1))
        return
    click.echo("\n" + terminal(gathered))
    log(f"report: {folder}/index.html")
