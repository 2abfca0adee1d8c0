"""docs/registry.md is the registry."""

from pathlib import Path

from pipeline.config.registry_reference import reference

PAGE = Path(__file__).resolve().parents[3] / "docs" / "registry.md"


def test_the_page_is_the_generated_one() -> None:
    assert PAGE.read_text() == reference(), "python -m pipeline.config.registry_reference > docs/registry.md"
