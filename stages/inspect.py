"""`griddle inspect`: what a file of ours is and where it came from; with --overlay, what its views look like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from stages.options import config_option, json_option


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--overlay",
    "overlay_folder",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Of a view manifest: draw the points on the images, coloured by depth, into DIR.",
)
@click.option("--root", type=click.Path(path_type=Path), help="The dataset's folder. Default: the config's.")
@config_option
@json_option
def inspect(
    path: Path, overlay_folder: Path | None, root: Path | None, config_path: str, as_json: bool
) -> None:
    """Say what PATH is and where it came from: a cache, a workdir, or any file or folder in them."""
    import json

    from pipeline.cache.inspect import inspect as facts_of

    facts = facts_of(path)
    if as_json:
        click.echo(json.dumps(facts, indent=1))
    else:
        _print(facts)
    if overlay_folder is not None:
        _overlay(path, overlay_folder, root, config_path)


def _overlay(path: Path, folder: Path, root: Path | None, config_path: str) -> None:
    from cache_schemas.errors import BadInput
    from cache_schemas.places import place_of
    from pipeline.cache.inspect import view_manifest
    from pipeline.cache.overlay import draw_overlays
    from pipeline.config.load import load_config

    manifest = view_manifest(path)
    if root is None:
        name = place_of("views", f"views/{manifest.path.parent.name}").dataset
        datasets = load_config(config_path).datasets
        if name not in datasets:
            raise BadInput(f"{config_path} has no dataset {name}; give its folder with --root")
        root = Path(datasets[name].root)
    for picture, points in draw_overlays(manifest, root, folder):
        click.echo(f"{picture}  {points} points")


def _print_arrays(arrays: dict[str, Any]) -> None:
    click.echo("arrays:")
    for name, array in arrays.items():
        dims = " × ".join(f"{dim} {size}" for dim, size in zip(array["dims"], array["shape"], strict=True))
        click.echo(
            f"  {name:<15}{array['dtype']:<9}{dims}, chunks of {array['chunk'][0]}, in {array['units']}"
        )


def _print(facts: dict[str, Any], indent: str = "") -> None:
    """Nested facts, one a line; long lists are cut and counted."""
    for key, value in facts.items():
        if key == "arrays":
            _print_arrays(value)
        elif isinstance(value, dict) and value and len(value) <= 40:
            click.echo(f"{indent}{key}:")
            _print(value, indent + "  ")
        elif isinstance(value, dict) and value:
            click.echo(f"{indent}{key}: {len(value)} entries (--json shows them)")
        elif isinstance(value, list) and len(value) > 8:
            click.echo(f"{indent}{key}: {value[:3]} ... {len(value)} in all (--json shows them)")
        else:
            click.echo(f"{indent}{key}: {value}")
