"""`griddle evaluate`: the score of a run again, of another split, and files that the official evaluation accepts."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from nuscenes import NuScenes
from nuscenes.eval.lidarseg.evaluate import LidarSegEval
from nuscenes.eval.lidarseg.validate_submission import validate_submission

from pipeline.config.load import load_config
from pipeline.datasets.nuscenes.toy import write_toy
from pipeline.plan.plan import Plan, plan_experiment
from pipeline.training.run_folder import save_config
from stages.cli import main


@pytest.fixture(scope="module")
def config_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A probe, and a finetuning from nothing, of a toy tree under the official mini split."""
    folder = tmp_path_factory.mktemp("evaluate")
    root = folder / "toy"
    write_toy(root, train=1, val=2, scans=2, image=(36, 64), beams=16, azimuths=120, processes=1)
    config = {
        "workdir": str(folder / "work"),
        "workers": 0,
        "datasets": {
            "toy": {"reader": "nuscenes", "root": str(root), "version": "v1.0-mini"},
            "again": {"reader": "nuscenes", "root": str(root), "version": "v1.0-mini"},
            "other": {"reader": "semantic_kitti", "root": str(root)},
        },
        "teachers": {
            "t": {"model": "vit_tiny_patch16_224", "weights": "untrained", "image_size": [32, 64]}
        },
        "students": {
            "s": {
                "datasets": ["toy"],
                "splits": ["val"],
                "teacher": "t",
                "points": {"neighbours": 4, "spares": 2, "cell": 4.0},
                "network": {"width": 8, "depth": 3},
                "pretrain": {"epochs": 1, "batch": 2, "warmup": 1},
                "probes": ["p"],
                "finetunes": ["f"],
            }
        },
        "probes": {"p": {"splits": ["val"], "epochs": 2, "batch": 2, "lr": 0.05, "warmup_epochs": 0,
                         "baselines": ["random"]}},
        "finetunes": {"f": {"splits": ["val"], "epochs": 2, "batch": 2, "warmup_epochs": 0, "starts": ["nothing"]}},
    }  # fmt: skip
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    for command in (["index"], ["scans"], ["scans", "--labels"], ["views", "--full-scans"]):
        main([*command, "--config", str(path)])
    plan = plan_experiment(load_config(path))
    baseline = next(run for run in plan.probe_runs.values() if run.kind == "random")
    main(["probe", "--config", str(path), "--baseline", Path(baseline.folder).name])
    main(["finetune", "--config", str(path)])
    return path


@pytest.fixture(scope="module")
def plan(config_path: Path) -> Plan:
    return plan_experiment(load_config(config_path))


def folders(plan: Plan) -> list[Path]:
    runs = [*plan.probe_runs.values(), *plan.finetune_runs.values()]
    return [
        plan.experiment.run_path(run)
        for run in runs
        if (plan.experiment.run_path(run) / "done.json").exists()
    ]


def evaluate(config_path: Path, capsys: Any, *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    main(["evaluate", "--config", str(config_path), "--json", *arguments])
    return json.loads(capsys.readouterr().out)


def test_the_devkits_evaluation_accepts_the_files_and_gives_our_score(
    config_path: Path, plan: Plan, tmp_path: Path, capsys: Any
) -> None:
    probe, finetuned = folders(plan)
    for number, folder in enumerate((probe, finetuned)):
        out = tmp_path / str(number)
        metrics = evaluate(config_path, capsys, str(folder), "--out", str(out))
        own = json.loads((folder / "metrics.json").read_text())
        for key in ("miou", "iou", "points", "ignored_points", "confusion"):
            assert metrics[key] == own[key]
        assert json.loads((folder / "evaluations" / "toy-val.json").read_text()) == metrics
        nusc = NuScenes("v1.0-mini", plan.experiment.config.datasets["toy"].root, verbose=False)
        validate_submission(nusc, str(out), "mini_val", verbose=False)
        official = LidarSegEval(nusc, str(out), "mini_val").evaluate()
        assert official["miou"] == pytest.approx(metrics["miou"], abs=1e-6)
        assert 0 < official["miou"] < 1


def test_another_split_of_another_dataset_brings_its_own_stores(
    config_path: Path, plan: Plan, capsys: Any
) -> None:
    (probe, _) = folders(plan)
    assert not [lot for lot in plan.lots("scans") if lot.split == "train"]
    metrics = evaluate(config_path, capsys, str(probe), "--dataset", "again", "--split", "train")
    assert (metrics["dataset"], metrics["split"], metrics["scans"]) == ("again", "train", 2)
    assert metrics["points"] > 0
    main(["evaluate", str(probe), "--config", str(config_path), "--votes", "2"])
    said = capsys.readouterr().out
    assert "2 votes" in said
    assert "mIoU %" in said
    assert (probe / "evaluations" / "toy-val-2-votes.json").exists()


def test_without_labels_predictions_are_written_and_nothing_is_scored(
    config_path: Path, plan: Plan, tmp_path: Path, capsys: Any
) -> None:
    root = tmp_path / "toy"
    shutil.copytree(plan.experiment.config.datasets["toy"].root, root)
    shutil.rmtree(root / "lidarseg")
    (root / "v1.0-mini" / "lidarseg.json").unlink()
    config = yaml.safe_load(config_path.read_text())
    config["datasets"]["bare"] = config["datasets"]["toy"] | {"root": str(root)}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    (probe, _) = folders(plan)
    arguments = [str(probe), "--dataset", "bare", "--out", str(tmp_path / "out")]
    metrics = evaluate(tmp_path / "config.yaml", capsys, *arguments)
    assert metrics["miou"] is None
    assert len(metrics["unlabelled"]) == 2
    (share,) = metrics["shares"]
    assert (share["scans"], {part["why"] for part in share["lacking"]}) == ([0, 4], {"without labels"})
    files = sorted((tmp_path / "out" / "lidarseg" / "mini_val").iterdir())
    sizes = {path.name: len(np.fromfile(path, np.uint8)) for path in files}
    assert len(sizes) == 4
    assert sum(sizes.values()) == metrics["ignored_points"]
    assert refused(tmp_path / "config.yaml", capsys, *arguments[:3]) == 2


def without_a_scene(plan: Plan, root: Path) -> tuple[str, int]:
    """A copy of the toy tree in which no file of the last val scene is there; its name, and how many scans it has."""
    shutil.copytree(plan.experiment.config.datasets["toy"].root, root)
    gone = [entry for entry in plan.experiment.indices["toy"].partitions if entry.split == "val"][-1]
    record = plan.experiment.indices["toy"].load_partition(gone)
    for scan in record.scans:
        for path in (scan.path, *(image.path for image in scan.images)):
            (root / path).unlink()
    return gone.name, gone.scans


def test_official_files_that_would_lack_a_scene_are_refused_unless_told(
    config_path: Path, plan: Plan, tmp_path: Path, capsys: Any
) -> None:
    scene, scans = without_a_scene(plan, tmp_path / "toy")
    config = yaml.safe_load(config_path.read_text())
    config["datasets"]["cut"] = config["datasets"]["toy"] | {"root": str(tmp_path / "toy")}
    config["datasets"]["chosen"] = config["datasets"]["toy"] | {"leave_out": [scene]}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    (probe, _) = folders(plan)
    for dataset, why in (("cut", "without any file"), ("chosen", "left out by the config")):
        out = tmp_path / f"out {dataset}"
        arguments = [str(probe), "--dataset", dataset, "--out", str(out)]
        assert refused(tmp_path / "config.yaml", capsys, *arguments) == 2
        line = f"{dataset} val: 1 of 2 partitions, {scans} of {2 * scans} scans; 1 partition {why}: {scene}"
        said = capsys.readouterr().err
        assert line in said
        assert "--partial" in said
        own = shlex.quote(str(tmp_path / "config.yaml"))
        again = shlex.join(["griddle", "evaluate", str(probe), "--config", str(tmp_path / "config.yaml")])
        assert f"Then run `{again} --dataset {dataset} --out {shlex.quote(str(out))}`" in said
        assert (f"Take {scene} out of datasets.chosen.leave_out" in said) == (dataset == "chosen")
        assert (f"and run `griddle index --config {own}`" in said) == (dataset == "cut")
        assert not out.exists(), "nothing is written"
        assert not list((plan.experiment.cache / "scans").glob(f"{dataset}-*")), "nor computed"
        metrics = evaluate(tmp_path / "config.yaml", capsys, *arguments, "--partial")
        assert len(list((out / "lidarseg" / "mini_val").iterdir())) == scans
        (share,) = metrics["shares"]
        assert (share["partitions"], share["scans"]) == ([1, 2], [scans, 2 * scans])
        assert share["lacking"] == [{"name": scene, "scans": scans, "why": why, "whole": scans}]
        main(["evaluate", "--config", str(tmp_path / "config.yaml"), *arguments[:3]])
        assert line in capsys.readouterr().out, "a score says on how much it stands"
    assert refused(config_path, capsys, str(probe), "--partial") == 2


def test_scans_that_could_not_be_read_are_missing_from_the_official_files(
    config_path: Path, plan: Plan, tmp_path: Path, capsys: Any
) -> None:
    root = tmp_path / "toy"
    shutil.copytree(plan.experiment.config.datasets["toy"].root, root)
    index = plan.experiment.indices["toy"]
    first = next(index.load_partition(entry) for entry in index.partitions if entry.split == "val").scans[0]
    lidar = root / first.path
    values = np.fromfile(lidar, "<f4")
    values[0] = np.nan
    values.tofile(lidar)
    config = yaml.safe_load(config_path.read_text())
    config["datasets"]["torn"] = config["datasets"]["toy"] | {"root": str(root), "on_error": "skip"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    (probe, _) = folders(plan)
    arguments = [str(probe), "--dataset", "torn", "--out", str(tmp_path / "out")]
    assert refused(tmp_path / "config.yaml", capsys, *arguments) == 2
    assert "3 of 4 scans; 1 scan that could not be read" in (said := capsys.readouterr().err)
    own = shlex.quote(str(tmp_path / "config.yaml"))
    assert f"Mend the files that could not be read, and run `griddle index --config {own} --force`" in said
    assert "not there" not in said
    assert not (tmp_path / "out").exists()
    evaluate(tmp_path / "config.yaml", capsys, *arguments, "--partial")
    assert len(list((tmp_path / "out" / "lidarseg" / "mini_val").iterdir())) == 3


def test_both_means_are_printed_and_stored(config_path: Path, plan: Plan, capsys: Any) -> None:
    (probe, _) = folders(plan)
    metrics = evaluate(config_path, capsys, str(probe))
    values = list(metrics["iou"].values())
    occurring = [value for value in values if value is not None]
    assert len(occurring) < len(values)
    assert metrics["miou"] == pytest.approx(np.mean(occurring))
    assert metrics["miou_all_classes"] == pytest.approx(sum(occurring) / len(values))
    assert json.loads((probe / "metrics.json").read_text())["miou_all_classes"] == metrics["miou_all_classes"]
    main(["evaluate", "--config", str(config_path), str(probe)])
    said = capsys.readouterr().out.splitlines()
    for name, key in (
        ("over the classes that occur", "miou"),
        ("over all, those that do not occur 0", "miou_all_classes"),
    ):
        (line,) = [line for line in said if line.startswith(f"mIoU %, {name}")]
        assert line.split()[-1] == f"{100 * metrics[key]:.2f}"


def workdir_of_ones_own(config_path: Path, plan: Plan, folder: Path) -> tuple[Path, Path]:
    """A copy of workdir and recordings that a test may change; the config that names them, and the copy of the probe."""
    work, root = plan.experiment.workdir, Path(plan.experiment.config.datasets["toy"].root)
    shutil.copytree(work, folder / "work")
    shutil.copytree(root, folder / "toy")
    config = yaml.safe_load(config_path.read_text())
    config["workdir"] = str(folder / "work")
    for dataset in config["datasets"].values():
        dataset["root"] = str(folder / "toy")
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder / "config.yaml", folder / "work" / folders(plan)[0].relative_to(work)


def remove_scene(plan: Plan, root: Path) -> str:
    """Remove all files of the last val scene."""
    entry = [entry for entry in plan.experiment.indices["toy"].partitions if entry.split == "val"][-1]
    for scan in plan.experiment.indices["toy"].load_partition(entry).scans:
        for path in (scan.path, *(image.path for image in scan.images)):
            (root / path).unlink()
    return entry.name


def test_what_was_trained_before_the_dataset_shrank_is_scored_from_the_cache(
    config_path: Path, plan: Plan, tmp_path: Path, capsys: Any
) -> None:
    own, probe = workdir_of_ones_own(config_path, plan, tmp_path)
    recorded = json.loads((probe / "metrics.json").read_text())
    scene = remove_scene(plan, tmp_path / "toy")
    main(["index", "--config", str(own)])
    capsys.readouterr()
    main(["evaluate", "--config", str(own), "--json", str(probe)])
    said = capsys.readouterr()
    metrics = json.loads(said.out)
    for key in ("miou", "iou", "points", "confusion"):
        assert metrics[key] == recorded[key], "on what it was scored on"
    line = f"toy val: 1 partition no longer there: {scene} (2 partitions then, 1 today)"
    assert said.err.count(line) == 1
    assert f"trained on other data than today's: {line}. snakemake trains on today's" in said.err
    main(["evaluate", "--config", str(own), str(probe)])
    said = capsys.readouterr()
    assert (said.out + said.err).count(line) == 1
    assert metrics["dataset_since"] == [line]
    (share,) = metrics["shares"]
    assert (share["partitions"], share["scans"]) == ([2, 2], [4, 4]), "read from the cache"
    fewer = evaluate(own, capsys, str(probe), "--dataset", "toy")
    assert fewer["scans"] == 2, "on what the dataset has today"
    out = ["--out", str(tmp_path / "out"), "--partial"]
    assert refused(own, capsys, str(probe), *out) == 2
    refusal = capsys.readouterr().err
    assert f"official names of their scans are not known: {scene}" in refusal
    assert f"run `griddle index --config {shlex.quote(str(own))}` and then `griddle evaluate " in refusal
    for path in (tmp_path / "work" / "cache").rglob(f"{scene}.*.json"):
        path.unlink()
    assert refused(own, capsys, str(probe)) == 2
    assert "add --dataset toy" in capsys.readouterr().err


def test_what_was_trained_before_the_dataset_grew_is_scored_as_it_was(
    config_path: Path, plan: Plan, tmp_path: Path, capsys: Any
) -> None:
    own, _ = workdir_of_ones_own(config_path, plan, tmp_path)
    whole = yaml.safe_load(own.read_text())
    scene = [entry.name for entry in plan.experiment.indices["toy"].partitions if entry.split == "val"][-1]
    fewer = yaml.safe_load(own.read_text())
    fewer["datasets"]["toy"]["leave_out"] = [scene]
    own.write_text(yaml.safe_dump(fewer))
    baseline = next(r for r in plan_experiment(load_config(own)).probe_runs.values() if r.kind == "random")
    main(["probe", "--config", str(own), "--baseline", Path(baseline.folder).name])
    own.write_text(yaml.safe_dump(whole))
    probe = tmp_path / "work" / baseline.folder
    for path in (tmp_path / "work" / "cache").rglob("*.json"):
        if path.name.partition(".")[0] != scene and "full_scans" in path.parts:
            path.unlink()  # a full scan that the dataset still has the files for: it is computed again
    metrics = evaluate(own, capsys, str(probe))
    assert metrics["confusion"] == json.loads((probe / "metrics.json").read_text())["confusion"]
    assert metrics["dataset_since"] == [
        f"toy val: 1 partition more today: {scene} (1 partition then, 2 today)"
    ]
    assert refused(own, capsys, str(probe), "--out", str(tmp_path / "out")) == 2
    assert "1 of 2 partitions" in capsys.readouterr().err
    official = ["--dataset", "toy", "--out", str(tmp_path / "out")]
    assert evaluate(own, capsys, str(probe), *official)["scans"] == 4


def test_what_the_config_leaves_out_is_said_to_be_left_out(
    config_path: Path, plan: Plan, tmp_path: Path, capsys: Any
) -> None:
    own, probe = workdir_of_ones_own(config_path, plan, tmp_path)
    scene = [entry.name for entry in plan.experiment.indices["toy"].partitions if entry.split == "val"][-1]
    config = yaml.safe_load(own.read_text())
    config["datasets"]["toy"]["leave_out"] = [scene]
    own.write_text(yaml.safe_dump(config))
    capsys.readouterr()
    main(["evaluate", "--config", str(own), "--json", str(probe)])
    said = capsys.readouterr()
    line = f"toy val: 1 partition left out by this config: {scene} (2 partitions then, 1 today)"
    assert json.loads(said.out)["dataset_since"] == [line]
    assert line in said.err
    assert "dataset changed" not in said.err
    assert refused(own, capsys, str(probe), "--dataset", "toy", "--out", str(tmp_path / "out")) == 2
    assert (
        f"Take {scene} out of datasets.toy.leave_out.\nThen run `griddle evaluate" in capsys.readouterr().err
    )


def test_help_names_every_reason_for_partial(capsys: Any) -> None:
    main(["evaluate", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "not there, are left out by the config, or could not be read" in said


def test_no_advice_to_make_the_call_that_was_just_made(
    config_path: Path, plan: Plan, tmp_path: Path, capsys: Any
) -> None:
    changed = yaml.safe_load(config_path.read_text())
    changed["students"]["s"]["network"]["width"] = 16
    (probe, _) = folders(plan)
    beside = probe.parent.parent / "config.yaml"
    beside.write_text(yaml.safe_dump(changed))
    try:
        assert refused(beside, capsys, str(probe)) == 2
        said = capsys.readouterr().err
        assert "--config" not in said
        assert f"has another id than {probe.name}" in said
    finally:
        beside.unlink()


def refused(config_path: Path, capsys: Any, *arguments: str) -> int:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "--config", str(config_path), *arguments])
    return int(ended.value.code or 0)


def test_what_cannot_be_evaluated_is_said(config_path: Path, plan: Plan, capsys: Any, tmp_path: Path) -> None:
    (probe, _) = folders(plan)
    distilled = next(run for run in plan.probe_runs.values() if run.kind == "distilled")
    cases = [
        ([str(tmp_path)], "does not lie in"),
        ([str(plan.experiment.workdir / "runs")], "the plan has no runs"),
        ([str(probe), "--dataset", "nuscenes"], "the config has no such dataset; it has again, other, toy"),
        ([str(probe), "--split", "test"], "no partition in split test"),
        ([str(plan.experiment.workdir / distilled.folder)], "is not done: run `snakemake probe_all"),
    ]
    for arguments, message in cases:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["evaluate", "--config", str(config_path), *arguments])
        assert ended.value.code == 2
        assert message in capsys.readouterr().err
    weights = probe / "weights.safetensors"
    whole = weights.read_bytes()
    try:
        weights.write_bytes(whole[:-4] + b"abcd")
        with pytest.raises(SystemExit) as ended:
            main(["evaluate", "--config", str(config_path), str(probe)])
        assert ended.value.code == 1
        assert "does not hold the weights that were trained" in capsys.readouterr().err
    finally:
        weights.write_bytes(whole)


def test_a_run_that_the_config_does_not_make_any_more(
    config_path: Path, plan: Plan, capsys: Any, tmp_path: Path
) -> None:
    changed = yaml.safe_load(config_path.read_text())
    changed["students"]["s"]["network"]["width"] = 16
    (tmp_path / "changed.yaml").write_text(yaml.safe_dump(changed))
    (probe, finetuned) = folders(plan)
    for run in (probe, finetuned):
        assert refused(tmp_path / "changed.yaml", capsys, str(run)) == 2
        told = capsys.readouterr().err
        assert "changed.yaml does not make runs/" in told
        assert str(run / "config.yaml") in told
    beside = probe.parent.parent / "config.yaml"
    beside.write_bytes(config_path.read_bytes())  # as a pretraining's
    try:
        assert refused(tmp_path / "changed.yaml", capsys, str(probe)) == 2
        assert f"made it: --config {beside}" in capsys.readouterr().err
    finally:
        beside.unlink()


def test_the_config_of_a_run_makes_it_and_what_was_learnt_on_it(
    config_path: Path, capsys: Any, tmp_path: Path
) -> None:
    whole = yaml.safe_load(config_path.read_text())
    whole["students"]["s"]["finetunes"] = ["f", "g"]
    whole["students"]["t"] = {**whole["students"]["s"], "datasets": ["again"]}
    whole["finetunes"]["g"] = {**whole["finetunes"]["f"], "datasets": ["again"], "starts": ["pretrained"]}
    whole["finetunes"]["unused"] = {**whole["finetunes"]["f"], "datasets": ["again"]}
    (tmp_path / "whole.yaml").write_text(yaml.safe_dump(whole))
    main(["index", "--config", str(tmp_path / "whole.yaml")])
    plan = plan_experiment(load_config(tmp_path / "whole.yaml"))
    run = next(run for run in plan.runs.values() if run.name == "s")
    save_config(tmp_path, plan.experiment, run)
    own = plan_experiment(load_config(tmp_path / "config.yaml"))
    assert set(own.experiment.config.finetunes) == {"f", "g"}
    assert [mine.id for mine in own.runs.values()] == [run.id]

    def ids(of: Plan) -> set[str]:
        return {f.id for f in of.finetune_runs.values() if f.student.datasets == run.student.datasets}

    assert ids(own) == ids(plan)
