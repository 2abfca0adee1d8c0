"""The JSON schema of a config file, generated from the model, for editors and for people."""

from __future__ import annotations

import json

from pipeline.config.model import Config


def schema_text() -> str:
    """What config/schema.json must hold; `python -m pipeline.config.schema > config/schema.json` writes it."""
    schema = Config.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(schema_text(), end="")
