"""`griddle report`: the table of all students, probes and baselines that are done."""

from __future__ import annotations

from pathlib import Path

import click

from stages.options import json_option, make_plan, plan_options


@click.command()
@plan_options
@json_option
@click.option("--without-finetunings", is_flag=True, help="Report students, probes and baselines alone.")
def report(
    config_path: str, workdir: Path | None, only: str | None, as_json: bool, without_finetunings: bool
) -> None:
    """Print the table, and write it with the loss curves into <workdir>/report."""
    import json

    from pipeline.common.log import log
    from pipeline.report.gather import gather
    from pipeline.report.page import write_report
    from pipeline.report.text import plain, terminal

    plan = make_plan(config_path, workdir, only)
    gathered = gather(plan, finetunings=not without_finetunings)
    folder = write_report(plan.experiment.workdir, gathered)
    if as_json:
        click.echo(json.dumps({**plain(gathered), "folder": str(folder)}, indent=1))
        return
    click.echo("\n" + terminal(gathered))
    log(f"report: {folder}/index.html")
