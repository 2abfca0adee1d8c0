"""Does it run: every way that a GPU takes, once, small, through Griddle's own commands. A way that fails is told, and the
next goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from benchmarks.gpu.cells import Cells, Wrong
from benchmarks.gpu.lines import Row
from benchmarks.gpu.packed import NUSCENES, TOY
from benchmarks.gpu.resumed import resumed
from benchmarks.gpu.toy_runs import Experiment, ToyRuns
from cache_schemas.removal import remove_partition
from pipeline.students.backends import triton_runs_on
from pipeline.teachers.images import DECODES, load_input
from pipeline.training.open_run import open_run
from pipeline.training.run_folder import WEIGHTS

PRECISIONS = ("float32", "bfloat16", "float16")
NEEDS_GPU = "it needs a GPU"
COMPILING = 45.0
"""Seconds that a training under torch.compile takes, most of them for compiling."""
SCALR_PLUS = {"activation": "gelu", "head": "mlp", "averaging": "scalr_plus", "stochastic_depth": 0.2}


def run(cells: Cells) -> None:
    """The cheap ways first, those that compile last."""
    toy = ToyRuns(cells)
    _images(cells, toy)
    _pretrainings(cells, toy)
    _triton(cells, toy)
    _labelled(cells, toy)
    for precision in ("float32", "float16"):
        cells.run(
            f"resume {precision}", partial(resumed, toy, cells, f"resume-{precision}", precision=precision)
        )
    _compiled(cells, toy)


def _images(cells: Cells, toy: ToyRuns) -> None:
    """Decoding of the real pictures, and the features stage over the toy's."""
    for way in DECODES:
        if way == "gpu" and not cells.on_gpu:
            cells.leave_out("decode gpu", NEEDS_GPU)
            cells.leave_out("features decode gpu", NEEDS_GPU)
            continue
        cells.run(f"decode {way}", lambda way=way: _decode(cells, toy, way))
    vit: dict[str, Any] = {"model": "dinov2_vits14", "weights": "untrained", "image_size": [224, 448]}
    if not cells.on_gpu:
        vit |= {"model": "vit_tiny_patch16_224", "image_size": [32, 64]}
    teachers: dict[str, dict[str, Any]] = {
        "exact": {"storage": "float32"},
        "float16": {},
        "bfloat16": {"precision": "bfloat16"},
        "int8": {"storage": "int8"},
    }
    if cells.on_gpu:
        teachers["decode gpu"] = {"decode": "gpu"}
    for name, block in teachers.items():
        key = name.replace(" ", "_")
        cells.run(
            f"features {name}", lambda key=key, block=block: toy.features(key, {**vit, **block}), needs=4
        )
    cells.run("features go on from another machine", lambda: _go_on(toy))


def _decode(cells: Cells, toy: ToyRuns, way: str) -> Row:
    """All real pictures in one way; how far their pixels, of 255, are from the exact ones."""
    packed, size = toy.packed, (224, 448)
    load = partial(load_input, packed.recordings, size=size, antialias=False, device=cells.device)
    load(packed.images[0], decode=way)
    began = time.perf_counter()
    found = [load(image, decode=way) for image in packed.images]
    seconds = time.perf_counter() - began
    exact = [load(image) for image in packed.images]
    apart = 255 * (torch.stack([one.cpu() for one in found]) - torch.stack(exact)).abs()
    row = {
        "ms_an_image": round(1e3 * seconds / len(found), 2),
        "on": str(found[0].device),
        "mean_difference": round(float(apart.mean()), 4),
        "largest_difference": round(float(apart.max()), 2),
    }
    if float(apart.mean()) > 4:  # of two ways to decode or resize it is 1 or 2
        raise Wrong("pixels are too far from the exact ones", **row)
    return row


def _go_on(toy: ToyRuns) -> Row:
    """A store that another machine began: four of its images are computed again here, and must be the same."""
    experiment = toy.experiment("go-on", students={"student": toy.student(teacher="second")})
    lot = experiment.plan.lots("features")[0]
    entry, member = lot.members[-1]
    remove_partition(experiment.plan.experiment.store_path(lot.store), entry.name, member)
    experiment.stage("features")
    return {"computed": entry.name, "images": entry.images}


def _pretrainings(cells: Cells, toy: ToyRuns) -> None:
    """Those that compile nothing: precisions, workers, checkpointing, teachers, kinds of students."""

    def pretrain(name: str, student: dict[str, Any], compare: bool = True, **blocks: Any) -> None:
        cells.run(f"pretrain {name}", lambda: toy.pretrain(name, student, compare, **blocks))

    for precision in PRECISIONS:
        for backend in ("torch", "reference"):
            if backend == "reference" and precision != "float32" and not cells.on_gpu:
                cells.leave_out(
                    f"pretrain {precision} {backend}", "on a CPU dense planes in short types are slow"
                )
                continue
            pretrain(f"{precision} {backend}", toy.student(precision, {"backend": backend}))
    for precision in ("float32", "float16"):
        pretrain(f"{precision} checkpointing", toy.student(precision, {"checkpointing": True}))
    pinned = ", pinned memory" if cells.on_gpu else ""
    pretrain(f"two workers{pinned}", toy.student(), workers=2)
    pretrain("two teachers", toy.student(teacher=["tiny", "second"]), compare=False)
    pretrain("int8 features", toy.student(teacher="int8"))
    pretrain("all cameras", toy.student(cameras="all"), compare=False)
    pretrain("batch norm", toy.student(network={"norm": "batch", "padding_aware": True}), compare=False)
    head = {} if cells.on_gpu else {"head_width": 32}
    for precision in ("float32", "bfloat16"):
        pretrain(f"ScaLR+ {precision}", toy.student(precision, {**SCALR_PLUS, **head}), compare=False)


def _labelled(cells: Cells, toy: ToyRuns) -> None:
    """Probes with all baselines, finetunings, evaluation with votes, weights there and back, a student opened."""
    probe = {"batch": 2, "epochs": 1, "warmup_epochs": 0.5, "calibration_batches": 3}
    baselines = ["calibrated", "random", "inputs", "teacher", "scratch"]
    finetune = {"batch": 2, "epochs": 1}
    main = toy.experiment(
        "main",
        students={
            "student": toy.student(
                probes=["linear", *PRECISIONS[1:]], finetunes=[f"all_{precision}" for precision in PRECISIONS]
            )
        },
        probes={
            "linear": {**probe, "baselines": baselines},
            **{precision: {**probe, "precision": precision} for precision in PRECISIONS[1:]},
        },
        finetunes={f"all_{precision}": {**finetune, "precision": precision} for precision in PRECISIONS},
    )
    cells.run("pretrain for probes", lambda: _staged(lambda: main.stage("pretrain")))
    for folder, one in main.plan.probe_runs.items():
        cells.run(f"probe {one.kind} {one.name}", lambda folder=folder: _train(main, "probe", folder))
    for folder, one in main.plan.finetune_runs.items():
        cells.run(f"finetune {one.name}", lambda folder=folder: _train(main, "finetune", folder))
    trained = [*main.plan.probe_runs, *main.plan.finetune_runs]
    for kind in ("/probe/linear", "/finetune/all_float32", "/finetune/all_float16"):
        folder = next(one for one in trained if kind in one)
        name = kind.split("/")[1:]
        cells.run(f"evaluate {' '.join(name)}, 3 votes", lambda folder=folder: _evaluate(main, folder))
    cells.run("weights there and back", lambda: _weights(cells, toy, main))
    cells.run("open_run", lambda: _open(cells, toy, main))


def _staged(call: Callable[[], None]) -> Row:
    call()
    return {}


def _train(main: Experiment, what: str, folder: str) -> Row:
    """A probe, a baseline or a finetuning; its score says nothing after so few steps."""
    path = Path(folder)
    if "/baselines/" in folder:
        options = ["--baseline", path.name]
    else:
        options = ["--run", path.parent.parent.name, f"--{what}", path.name]
    main.stage(what, *options)
    metrics = json.loads((main.workdir / folder / "metrics.json").read_text())
    return {"miou": metrics["miou"]}


def _evaluate(main: Experiment, folder: str) -> Row:
    out = main.workdir / "predictions" / Path(folder).name
    main.stage("evaluate", str(main.workdir / folder), "--votes", "3", "--out", str(out), "--partial")
    return {"files": sum(path.is_file() for path in out.rglob("*"))}


def _weights(cells: Cells, toy: ToyRuns, main: Experiment) -> Row:
    """Out as a checkpoint of the authors and in again: the same tensors to the bit, and a student that computes."""
    file, folder = main.workdir / "ckpt_last.pth", main.workdir / "imported"
    main.stage("weights", "export", str(main.run_folder), "--out", str(file))
    main.stage("weights", "import", str(file), "--out", str(folder), "--student", "student")
    ours, back = (load_file(path / WEIGHTS) for path in (main.run_folder, folder))
    differ = [name for name in ours if name not in back or not torch.equal(ours[name], back[name])]
    row = {"tensors": len(ours), "differ": differ[:5]}
    if differ or len(back) != len(ours):
        raise Wrong(f"{len(differ)} tensors are not what they were, and {len(back)} came back", **row)
    if not np.isfinite(_features(folder, cells.device, toy)).all():
        raise Wrong("the imported student's features are not finite", **row)
    return row


def _open(cells: Cells, toy: ToyRuns, main: Experiment) -> Row:
    """A whole real scan through a student that was opened on the device, and on the CPU."""
    here, there = (_features(main.run_folder, device, toy) for device in (cells.device, torch.device("cpu")))
    apart = float(np.linalg.norm(here - there) / np.linalg.norm(there))
    row = {"points": len(here), "relative_difference_to_cpu": apart}
    if not apart < 1e-3:
        raise Wrong("features differ from those of the CPU", **row)
    return row


def _features(folder: Path, device: torch.device, toy: ToyRuns) -> np.ndarray:
    points = np.fromfile(toy.packed.recordings / toy.packed.scans[0].path, "<f4").reshape(-1, 5)
    opened = open_run(folder, str(device))
    dataset = TOY if TOY in opened.intensity else NUSCENES  # of imported weights it is the reader's name
    return opened.features(points[:, :3], points[:, 3], dataset=dataset)


def _triton(cells: Cells, toy: ToyRuns) -> None:
    """Kernels of our own, each compiled once, in seconds."""
    for precision in PRECISIONS:
        for more, network in (("", {}), (" checkpointing", {"checkpointing": True})):
            if more and precision != "float32":
                continue
            name = f"{precision} triton{more}"
            if not triton_runs_on(cells.device.type):
                cells.leave_out(f"pretrain {name}", f"{NEEDS_GPU} and the package triton")
                continue
            student = toy.student(precision, {"backend": "triton", **network})
            cells.run(f"pretrain {name}", partial(toy.pretrain, name, student), needs=10)


def _compiled(cells: Cells, toy: ToyRuns) -> None:
    """torch.compile takes a minute for each."""
    for precision in PRECISIONS:
        name = f"{precision} compiled"
        if not cells.on_gpu and (cells.quick or precision != "float32"):
            cells.leave_out(
                f"pretrain {name}", "on a CPU it compiles for minutes; float32 runs without --quick"
            )
            continue
        student = toy.student(precision, {"backend": "compiled"})
        needs = COMPILING if precision == "float32" else COMPILING / 2
        cells.run(f"pretrain {name}", partial(toy.pretrain, name, student), needs=needs, most=240)
