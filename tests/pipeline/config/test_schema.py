"""The JSON schema and the experiments of this repository agree with the model."""

import json
import re
from pathlib import Path

import pytest

from pipeline.config.load import load_config
from pipeline.config.model import Config
from pipeline.config.schema import schema_text

CONFIGS = Path(__file__).resolve().parents[3] / "config"


def test_the_schema_is_the_one_that_the_model_gives() -> None:
    assert (CONFIGS / "schema.json").read_text() == schema_text(), (
        "config/schema.json is not what the model gives; write it anew:\n"
        "    python -m pipeline.config.schema > config/schema.json"
    )


def test_every_key_says_what_it_means() -> None:
    schema = json.loads(schema_text())
    blocks = {"Config": schema, **schema["$defs"]}
    silent = [
        f"{block}.{key}"
        for block, content in blocks.items()
        for key, field in content.get("properties", {}).items()
        if not field.get("description")
    ]
    assert silent == []
    assert set(schema["properties"]) == set(Config.model_fields)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_experiment_is_valid(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in re.findall(r"\$\{(\w+)\}", path.read_text()):
        monkeypatch.setenv(name, "/somewhere")
    assert load_config(path).students
