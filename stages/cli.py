"""`griddle`: the commands in the order of the data's way. Each is imported when it is called."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click

from cache_schemas.disk import in_words
from cache_schemas.errors import GriddleError

COMMANDS = {
    "toy": "Write a small synthetic town in the files of a dataset.",
    "index": "Find out what the datasets hold.",
    "scans": "Write points and labels into the scan store.",
    "views": "Write which point falls on which pixel into the view store.",
    "features": "Run the teacher over the images, into the feature store.",
    "pretrain": "Pretrain a student from the cache.",
    "probe": "Train linear probes on pretrained students and their baselines.",
    "finetune": "Train pretrained students, or new ones, with labels.",
    "evaluate": "Score a probe, a finetuning or an imported checkpoint; write official predictions.",
    "report": "Print the table of what is done, and write it with loss curves.",
    "stats": "Say how intensities are normalised; measure what nobody published.",
    "plan": "Say what would be computed, read and written.",
    "cache": "List, measure, verify and clean the cache.",
    "weights": "Take weights over from the authors' checkpoints, and write checkpoints that their code loads.",
    "inspect": "Say what any file of ours is and where it came from.",
}


class Commands(click.Group):
    """Lists commands without importing them, so that --help is there at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        return getattr(import_module(f"stages.{name}"), name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _say_version(context: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        try:
            said = f"version {version('griddle')}"
        except PackageNotFoundError:
            said = "from a checkout that is not installed; its files record no version"
        click.echo(f"griddle, {said}")
        context.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_say_version,
    help="Show the version and exit.",
)
@click.option(
    "--log",
    "log_path",
    type=click.Path(path_type=Path),
    help="Write what the command says into this file, too. Before the command: griddle --log FILE COMMAND ...",
)
def griddle(log_path: Path | None) -> None:
    """Distil image foundation models into lidar networks, from a cache."""
    if log_path is not None:
        from pipeline.common.log_file import write_into

        try:
            write_into(log_path)
        except OSError as error:
            raise click.UsageError(f"--log {log_path}: {error.strerror}") from error


def main(arguments: list[str] | None = None) -> Any:
    """Entry point: our own errors are printed without a traceback and set the exit code."""
    # Read when torch is loaded. Threads that spin while they wait cost a shared machine more than they save.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        return griddle.main(args=arguments, prog_name="griddle", standalone_mode=False)
    except GriddleError as error:
        click.echo(f"griddle: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        explained = in_words(error)
        if explained is None:
            raise
        click.echo(f"griddle: {explained}", err=True)
        sys.exit(explained.exit_code)
    except SystemExit as end:
        if end.code:
            raise
        # Commands of ours end by returning. What ended this one, a package or a user's reader, would pass for success.
        click.echo(
            "griddle: something called sys.exit before the command had ended; it is not done", err=True
        )
        sys.exit(1)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("griddle: interrupted; the same command goes on from here", err=True)
        sys.exit(130)


if __name__ == "__main__":
    main()
