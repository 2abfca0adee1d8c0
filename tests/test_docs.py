"""Every command block of README.md and docs/ is run here, on toy data where it needs data, or by .ci/run."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from authors_state import their_state

from cache_schemas.reference import reference_text as stores_text
from pipeline.config.load import load_config
from pipeline.config.model import Student
from pipeline.config.reference import reference_text
from pipeline.datasets.readers import packaged
from stages.cli import main

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]


def blocks(language: str) -> list[tuple[str, str]]:
    """(page, text) of every fenced block in a language."""
    found = []
    for page in PAGES:
        for text in re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            found.append((page.name, text.strip()))
    return found


def test_no_block_is_overlooked() -> None:
    fences = re.findall(r"^```(\w*)", "\n".join(page.read_text() for page in PAGES), re.MULTILINE)
    assert set(fences) <= {"", "bash", "yaml", "python"}
    assert len(blocks("bash")) == 6


def test_the_two_commands_of_the_readme_are_what_ci_runs() -> None:
    script = (REPOSITORY / ".ci" / "run").read_text()
    (_, main_job), (_, tests) = blocks("bash")[:2]
    assert main_job == "pip install -e . && griddle toy && snakemake pretrain_all --cores 8"
    assert tests == "pip install -e '.[test]' && pytest"
    for command in (*main_job.split(" && ")[1:], *tests.split(" && ")):
        assert re.search(
            rf"^(time )?{re.escape(command).replace('install', 'install( -q)?')}$", script, re.MULTILINE
        )


@pytest.mark.whole
def test_the_commands_for_a_real_dataset_run_on_a_toy_tree(workspace: Any) -> None:
    commands = blocks("bash")[2][1].splitlines()
    (workspace.folder / "config" / "mine.yaml").write_text(workspace.config_path.read_text())
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    (workspace.folder / "Snakefile").symlink_to(REPOSITORY / "Snakefile")
    for command in commands:
        done = subprocess.run(
            command,
            shell=True,
            cwd=workspace.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def test_the_commands_of_the_page_of_the_cache(filled: Any) -> None:
    (filled.folder / "config" / "mine.yaml").write_text(filled.workspace.config_path.read_text())
    commands = next(text for page, text in blocks("bash") if page == "cache.md").splitlines()
    for command in commands:
        arguments = shlex.split(command, comments=True)
        assert arguments[0] == "griddle"
        assert filled.workspace.griddle(*arguments[1:]).returncode == 0, command


def test_the_commands_of_the_page_of_the_student(filled: Any) -> None:
    torch.save({"model_point": their_state(8, 2, "layer", "linear", 6)}, filled.folder / "ckpt_last.pth")
    commands = next(text for page, text in blocks("bash") if page == "student.md").splitlines()
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "griddle"
        assert filled.griddle(*arguments) == 0, command
    assert (filled.folder / "back" / "ckpt_last.pth").is_file()


def test_the_commands_that_score_a_checkpoint_of_the_authors(filled: Any) -> None:
    torch.save({"net": their_state(8, 2, "layer", "classes", 16)}, filled.folder / "finetuned.pth")
    config = yaml.safe_load(filled.workspace.config_path.read_text())
    del config["datasets"]["nuscenes"]["partitions"]  # to have a val split
    (filled.folder / "config" / "mine.yaml").write_text(yaml.safe_dump(config))
    commands = next(text for page, text in blocks("bash") if page == "recipes.md").splitlines()
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "griddle"
        with contextlib.chdir(filled.folder):
            main(arguments)
    assert len(list((filled.folder / "predictions" / "lidarseg" / "val").iterdir())) == 2
    assert len(list((filled.folder / "imported" / "finetuned" / "evaluations").iterdir())) == 2


def test_the_student_of_the_page_starts_from_weights() -> None:
    page = (REPOSITORY / "docs" / "student.md").read_text()
    (block,) = re.findall(r"^    students:\n(?:     .*\n)+", page, re.MULTILINE)
    student = Student.model_validate(yaml.safe_load(block)["students"]["scalr"])
    assert (student.starts_from, student.teachers) == ("imported/scalr", ())


def test_the_yaml_of_the_pages_is_a_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for page, text in blocks("yaml"):
        for variable in re.findall(r"\$\{(\w+)\}", text):
            monkeypatch.setenv(variable, str(tmp_path))
        config = {"teachers": {"t": {"model": "dinov2_vits14"}}, **yaml.safe_load(text)}
        config["students"] = {
            "s": {"datasets": list(config["datasets"]), "teacher": next(iter(config["teachers"]))}
        }
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config))
        for dataset in load_config(tmp_path / "mine.yaml").datasets.values():
            assert dataset.root.startswith(str(tmp_path)), page
            assert dataset.reader in packaged() or dataset.reader.endswith(":Reader"), page


def test_the_python_of_the_docs_runs(finished_master: Any) -> None:
    pages: dict[str, list[str]] = {}
    for page, text in blocks("python"):
        pages.setdefault(page, []).append(text)  # a page is read from its top: later blocks know earlier ones
    assert len(pages["api.md"]) == 6
    for page, texts in pages.items():
        text = "\n\n".join(texts)
        done = subprocess.run(
            [sys.executable, "-c", text],
            cwd=finished_master.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{page}\n{text}\n{done.stderr}"


def test_the_page_of_the_config_is_the_generated_one() -> None:
    assert (REPOSITORY / "docs" / "config.md").read_text() == reference_text(), (
        "python -m pipeline.config.reference > docs/config.md"
    )


def test_the_page_of_the_stores_is_the_generated_one() -> None:
    assert (REPOSITORY / "docs" / "stores.md").read_text() == stores_text(), (
        "python -m cache_schemas.reference > docs/stores.md"
    )


def test_links_lead_to_files() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


PATH = re.compile(
    r"(?<![\w/.$}-])(?:pipeline|stages|cache_schemas|griddle|tests|benchmarks|examples|docs|\.ci)/[\w/.-]*\w\.(?:py|md|smk|sh|json|yaml)\b"
)


def test_every_file_of_the_repository_that_is_named_somewhere_is_there() -> None:
    """In pages, comments, docstrings and messages: a file that moves takes its name along."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.split()
    lost = [
        f"{name}: {path}"
        for name in listed
        if name.endswith((".py", ".md", ".smk", ".yaml", ".cfg", ".toml")) or name in ("Snakefile", ".ci/run")
        for path in PATH.findall((REPOSITORY / name).read_text())
        if name not in ("tests/test_house.py", "tests/test_words.py")  # what they name is made up
        if not (REPOSITORY / path).exists()
    ]
    assert not lost, "\n".join(lost)
