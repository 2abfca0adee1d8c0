"""Is there a wheel for all that the packed wheels need? `pip download --no-deps` does not ask.

python -m benchmarks.gpu.wheels build/gpu/wheels
"""

from __future__ import annotations

import email
import zipfile
from collections.abc import Iterator
from pathlib import Path

import click
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

THERE = frozenset(
    {"torch", "torchvision", "timm", "scipy", "tensorboard", "numpy", "pyyaml", "safetensors", "pillow"}
)
"""On the machine already; what came with them is there, too."""
MARKERS = {"python_version": "3.12", "python_full_version": "3.12.0", "sys_platform": "linux", "extra": ""}


def lacking(folder: Path) -> Iterator[str]:
    """What wheels below `folder` need on Python 3.12 and Linux, and neither another wheel nor the machine has, in words."""
    headers = [_metadata(path) for path in sorted(folder.glob("*.whl"))]
    versions = {canonicalize_name(header["Name"]): Version(header["Version"]) for header in headers}
    for header in headers:
        for text in header.get_all("Requires-Dist") or []:
            need = Requirement(text)
            name = canonicalize_name(need.name)
            if name in THERE or (need.marker is not None and not need.marker.evaluate(MARKERS)):
                continue
            if name not in versions:
                yield f"{header['Name']} {header['Version']} needs {need}, which is not among the wheels"
            elif not need.specifier.contains(versions[name], prereleases=True):
                yield f"{header['Name']} {header['Version']} needs {need}, and the wheel is {versions[name]}"


def _metadata(path: Path) -> email.message.Message:
    with zipfile.ZipFile(path) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(wheel.read(name))


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(folder: Path) -> None:
    """Say what the wheels in FOLDER lack."""
    lines = list(lacking(folder))
    if lines:
        raise click.ClickException("\n".join(["benchmarks/gpu/wheels.txt is not whole:", *lines]))


if __name__ == "__main__":
    main()
