"""The tables of a run on a GPU, from a JSON that was made by hand: figures in their places, and all that is missing in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.gpu.markdown import number, percent, table
from benchmarks.gpu.tables import all_tables, main

CARD = "NVIDIA H100 80GB HBM3"
SIZE = "768 channels, 5000 points, bfloat16"
STEP = "WI-48-768 bfloat16 batch 8"
FLOORS = {"floor_ms": 14.9, "estimate_ms": 82.2, "authors_estimate_ms": 281.9}


def ok(what: str, **figures: Any) -> dict[str, Any]:
    return {"what": what, "status": "ok", "seconds": 1.0, **figures}


def bad(what: str, status: str, why: str, **figures: Any) -> dict[str, Any]:
    return {"what": what, "status": status, "why": why, **figures}


def section(*rows: dict[str, Any], status: str = "ok", **more: Any) -> dict[str, Any]:
    return {
        "status": status,
        "on": CARD,
        "started": "2026-11-28T09:00:00Z",
        "seconds": 12.3,
        "rows": list(rows),
        **more,
    }


def body() -> dict[str, Any]:
    def step(side: str, ms: float, clouds: int = 8, **more: Any) -> dict[str, Any]:
        figures = {"side": side, "ms": ms, "clouds": clouds, "ms_a_cloud": ms / clouds, "host_ms": ms / 2}
        return ok(f"{side}, {SIZE}", **figures, peak_gb=20.5, share_of_products=0.2, **more)

    return {
        "griddle": "griddle gpu benchmark",
        "asked": {"device": "cuda", "minutes": 6.0, "quick": False},
        "started": "2026-11-28T09:00:00Z",
        "sections": {
            "machine": section(
                ok("device", name=CARD, capability="9.0", gigabytes=85.0, python="3.12.3", versions={"torch": "2.11"}),
                ok("copy", tb_per_s=2.81),
                ok("product float16", tflop_per_s=611.0),
                bad("product bfloat16", "failed", "RuntimeError: no"),
            ),
            "runs": section(
                ok("decode exact", ms_an_image=9.31),
                bad("features decode gpu", "died", "its process ended with -11: Segmentation | fault"),
                status="failed",
            ),
            "correct": section(
                ok("torch, float32", backend="torch", arithmetic="float32", output=3.6e-7, output_bound=2.6e-6, gradient=4.1e-7, gradient_bound=5.2e-6),
                bad("triton, float16", "wrong", "too far", backend="triton", arithmetic="float16", output=0.5),
                bad("triton, tf32", "hung", "it had not ended"),
                ok("twice, torch, float32", same_bits=False, differ=2, first=["a", "b"], ms=5.0, ms_deterministic=9.0, cost=1.8),
                status="failed",
            ),
            "student": section(
                step("triton", 80.0, **FLOORS),
                step("torch", 100.0, **FLOORS),
                step("authors", 180.0, clouds=4, did_not_fit=[8, 6, 5]),
                bad(f"compiled, {SIZE}", "left out", "9 s were left, it needs about 75"),
                bad("triton, 256 channels, 20000 points, float32", "out of memory", "the device's memory is full"),
                ok("optimiser, 768 channels", ms=1.25),
            ),
            "teacher": section(
                ok("ViT-L, 224 x 448, bfloat16, 32 in a batch", images_per_s=510.0, bare_per_s=700.0, decode_per_s=550.0, share_of_ceiling=0.93, bound_by="decoding", tflop_per_s=41.0, peak_tflop_per_s=60.0, share_of_peak=0.68, bare_share_of_peak=0.91),
                ok("float32 convolutions in TF32", moved=4e-4),
            ),
            "step": section(
                ok("cache", megabytes=12.5),
                ok(f"cached {STEP}, 8 workers", samples_per_s=80.0, ms_a_step=100.0, data_wait_share=0.01, peak_gb=21.0),
                ok(f"profile of cached {STEP}", busy_ms_a_step=93.0, launches_a_step=2400.0, kernels_ms_a_step={"gemm": 9.5}),
                bad(f"published {STEP}, 8 workers", "out of memory", "the device's memory is full"),
                status="cut off",
            ),
            "choices": section(
                bad("auto, 256 channels", "wrong", "triton is faster", torch_ms=9.0, triton_ms=6.0, auto="torch", fastest="triton", auto_behind=1.5),
                error="its process ended with 1",
            ),
        },
    }  # fmt: skip


def test_figures_stand_in_their_places() -> None:
    text = "\n".join(all_tables(body()))
    assert text.startswith(f"Measured on {CARD}, 2026-11-28.\n")
    assert "says nothing of speed" not in text
    rows = [line for line in text.splitlines() if line.startswith("| 768 | 5000 | bfloat16 |")]
    times, shares = ([cell.strip() for cell in row.strip("|").split("|")][3:] for row in rows)
    # floor, estimate, triton, torch, compiled, authors' estimate and measured, clouds, 45 ms a cloud against 10
    assert times == ["14.9", "82.2", "80", "100", "left out", "282", "180", "4", "4.5"]
    assert shares == ["triton", "19 %", "20 %", "50 %", "20.5", "20 %", "20.5"]
    assert "| 256 | 20000 | float32 |  |  | out of memory |" in text
    assert "| optimiser, 768 channels | ms 1.25 |" in text
    assert "| torch, float32 | 3.6e-07 | 2.6e-06 | 4.1e-07 | 5.2e-06 |" in text
    assert "| copy | 2.81 |" in text
    assert "| product float16 | 611 |" in text
    assert "| torch, float32 | no | 2 | a, b | 5 | 9 | 1.8 |" in text
    assert (
        "| ViT-L, 224 x 448, bfloat16, 32 in a batch | 510 | 700 | 550 | 93 % | decoding | 41 | 68 % | 91 % |"
        in text
    )
    assert "| 256 channels **wrong** | 9 | 6 | torch | triton | 1.5 |" in text
    assert f"| cached {STEP}, 8 workers | 80 | 100 | 1 % | 93 % | 2,400 |  | 21 |" in text
    assert f"| published {STEP}, 8 workers | out of memory |" in text
    assert f"| cached {STEP} | gemm | 9.5 |" in text


def test_what_is_missing_is_said_in_words() -> None:
    text = "\n".join(all_tables(body()))
    for line in (
        "* failed: product bfloat16: RuntimeError: no",
        "* died: features decode gpu: its process ended with -11: Segmentation | fault",
        "* wrong: triton, float16: too far",
        "* hung: triton, tf32: it had not ended",
        f"* left out: compiled, {SIZE}: 9 s were left, it needs about 75",
        "* out of memory: triton, 256 channels, 20000 points, float32: the device's memory is full",
        "* the section was cut off, after 12.3 s",
        "* the section's process: its process ended with 1",
    ):
        assert f"\n{line}\n" in text


def test_a_section_without_rows_and_one_on_another_card() -> None:
    changed = body()
    changed["sections"]["teacher"] = {"status": "running", "rows": []}
    changed["sections"]["step"]["on"] = "NVIDIA H200"
    text = "\n".join(all_tables(changed))
    assert "**More than one device**: machine on NVIDIA H100 80GB HBM3; " in text
    assert "step on NVIDIA H200" in text
    assert "Nothing was measured." in text
    assert "\n* the section was running when the file was last written\n" in text


def test_the_command_prints_them_and_refuses_another_file(tmp_path: Path) -> None:
    file = tmp_path / "gpu.json"
    file.write_text(json.dumps(body()))
    done = CliRunner().invoke(main, [str(file)])
    assert done.exit_code == 0, done.output
    assert "### The student" in done.output
    file.write_text("[]")
    done = CliRunner().invoke(main, [str(file)])
    assert done.exit_code == 1
    assert "is not what `python -m benchmarks.gpu` writes" in done.output


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, ""), (0.0, "0"), (1.2345e-7, "1.2e-07"), (0.01234, "0.0123"), (12.345, "12.3"), (1234.5, "1,234"),
     (8, "8"), (12345, "12,345"), (True, "yes"), ("nan", "nan"), ([1, 0.5], "1, 0.5"), ({"a_b": 0.5}, "a b 0.5")],
)  # fmt: skip
def test_numbers(value: Any, shown: str) -> None:
    assert number(value) == shown


def test_percents_and_empty_tables() -> None:
    assert (percent(0.934), percent(None), percent("nan")) == ("93 %", "", "")
    assert table(("a",), []) == []
    assert table(("a", "b"), [("x|y", "1")]) == ["| a | b |", "|---|---|", "| x/y | 1 |", ""]
