"""`griddle weights`: students from the authors' checkpoints, and checkpoints that their code loads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stages.options import config_option, json_option, workdir_option

if TYPE_CHECKING:
    from pipeline.students.authors import Described


@click.group()
def weights() -> None:
    """Take weights over from the authors' checkpoints, and write checkpoints that their code loads."""


@weights.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="The folder to write. Default: <workdir>/imported/<file's name>.",
)
@click.option(
    "--student", "student_name", metavar="STUDENT", help="Refuse what this student's network does not fit."
)
@click.option(
    "--activation",
    type=click.Choice(["relu", "gelu"]),
    help="The tensors do not show it. Needed for a probed or finetuned network with layer norm: relu in ScaLR, gelu in ScaLR+.",
)
@config_option
@workdir_option
@json_option
def import_(
    file: Path,
    out: Path | None,
    student_name: str | None,
    activation: Any,
    config_path: str,
    workdir: Path | None,
    as_json: bool,
) -> None:
    """Turn FILE, a checkpoint of ScaLR or ScaLR+, into a folder of ours, and print the config that fits it.

    Pretrained, probed or finetuned; nothing in the file is run.
    """
    import json

    from cache_schemas.errors import BadInput
    from pipeline.config.load import load_config
    from pipeline.students.authors import Described
    from pipeline.training.import_weights import ACTIVATIONS, read_weights, write_weights

    wanted, where, configured = None, "", None
    if student_name is not None:
        students = load_config(config_path).students
        if student_name not in students:
            raise BadInput(f"--student {student_name}: {config_path} has {', '.join(students)}")
        network, where = students[student_name].network, f"students.{student_name}.network"
        wanted = Described(network.width, network.depth, network.norm, "linear", 0, None)
        configured = network.activation
    read, described = read_weights(file, wanted, where)
    released = ACTIVATIONS.get(described.head) or ("relu" if described.norm == "batch" else None)
    activation = activation or configured
    known = "given" if activation else "as released with such a head and norm; --activation says otherwise"
    activation = activation or released
    if activation is None:
        raise BadInput(
            f"{file} holds a {described}, and no tensor says its activation: add --activation relu if it comes from ScaLR, "
            f"--activation gelu if from ScaLR+"
        )
    folder = out or (workdir or Path(load_config(config_path).workdir)) / "imported" / file.stem
    provenance = write_weights(folder, file, read, described, activation)
    if as_json:
        click.echo(json.dumps({"folder": str(folder), **provenance}, indent=1))
        return
    imported = provenance["imported"]
    click.echo(
        f"{file}: {imported['tensors']} tensors"
        + (f" under {read.key}" if read.key else "")
        + f", sha256 {imported['sha256']}\n"
        f"holds: {described}\nactivation: {activation} ({known})\n→ {folder}\n"
    )
    _print_config(folder, described, imported["network"])


@weights.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="The file to write, such as ckpt_last.pth."
)
@click.option(
    "--module",
    is_flag=True,
    help="Prefix names with `module.`, as their trainings on several GPUs write and read them.",
)
@config_option
@workdir_option
@json_option
def export(run: Path, out: Path, module: bool, config_path: str, workdir: Path | None, as_json: bool) -> None:
    """Write the student of RUN, a run's folder or a probe's in it, as a checkpoint that the authors' code loads."""
    import json

    from pipeline.training.export_weights import export as write

    done = write(run, out, module=module)
    if as_json:
        facts = {"out": str(out), "key": done.key, "branch": done.branch, "tensors": done.tensors}
        click.echo(json.dumps({**facts, "holds": str(done.described)}, indent=1))
        return
    use = (
        "--pretrained_ckpt" if done.key == "model_point" else "--restart, as ckpt_last.pth in its --log_path"
    )
    click.echo(
        f"{run}: {done.described}\n→ {out}: {done.tensors} tensors under {done.key}, for finetune.py {use} "
        f"(github.com/valeoai/ScaLR, branch {done.branch})"
    )


def _print_config(folder: Path, described: Described, network: dict[str, Any]) -> None:
    from pipeline.plan.starting_weights import flow

    click.echo(
        "A student of a config that starts from it, and is probed without a pretraining:\n\n"
        f"students:\n  imported:\n    starts_from: {folder}\n    datasets: [nuscenes]\n    network: {flow(network)}\n"
        "    probes: [linear]"
    )
    if described.head == "classes":
        click.echo(f"\nIts {described.out} classes are kept in the folder; probes learn their own.")
