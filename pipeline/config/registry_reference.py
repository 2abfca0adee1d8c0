"""docs/registry.md, generated from the registry: python -m pipeline.config.registry_reference > docs/registry.md"""

from __future__ import annotations

from pipeline.config.registry import REGISTRY, Row

HEAD = """# The registry of teachers

Generated from `pipeline/config/registry.py` by `python -m pipeline.config.registry_reference`; [teachers.md](teachers.md) says
how they are used. Any other ViT or convnet of timm is a teacher, too, by its timm name.

Licences are those of the weights, as timm states them; read them before you use a teacher or share what you derive.
"""


def reference() -> str:
    """The page, with its last newline."""
    lines = [
        HEAD,
        "| `model:` | read there | patch | channels | licence | timm's name |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| `{row.name}` | {row.layer} | {row.patch} | {row.channels} | {row.licence} | `{row.model}` |"
        for row in REGISTRY.values()
    ]
    lines += [
        "",
        "## Weights",
        "",
        "`hub` downloads from the repository named here. The original authors' file is taken, too, with their names of",
        "tensors. Its SHA-256 is checked where a source for it can be cited, and left blank where none can.",
        "",
        "| `model:` | hub repository | original file | SHA-256, and its source |",
        "|---|---|---|---|",
    ]
    lines += [_weights(row) for row in REGISTRY.values()]
    lines += ["", "## Input, positions and notes", ""]
    for row in REGISTRY.values():
        positions = f"positions, original way: {row.resample}. " if row.resample else ""
        colours = f"mean {row.mean}, std {row.std}; " if row.mean[0] != 0.485 else ""
        lines.append(f"* `{row.name}`: {colours}{positions}{row.notes}")
    lines += [
        "",
        "Mean and std of the input are ImageNet's, (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225), unless said.",
    ]
    return "\n".join(lines) + "\n"


def _weights(row: Row) -> str:
    digest = f"`{row.sha256}`; {row.sha256_source}" if row.sha256 else ""
    file = f"`{row.file}`" if row.file else ""
    return f"| `{row.name}` | {row.hub} | {file} | {digest} |"


if __name__ == "__main__":
    print(reference(), end="")
