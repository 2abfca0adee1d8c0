"""Compile every kernel of the student to machine code for an NVIDIA GPU of compute capability 9.0; none is needed."""

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from pipeline.students import triton_kernels as kernels

TARGET = GPUTarget("cuda", 90, 32)
NUMBERS, TABLES = "*fp32", "*i64"
CASES = [
    *(
        (
            kernels.cell_sums,
            "rows out mean deviation",
            "order starts",
            "C",
            {"BLOCK": 1024, "NORMALISE": norm},
        )
        for norm in (True, False)
    ),
    (
        kernels.normalised_rows_backward,
        "of_sums of_rest rows mean deviation out",
        "cell_of_row",
        "C",
        {"BLOCK": 1024},
    ),
    (kernels.add_to_rows, "rows cells out", "cell_of_row", "C", {"BLOCK": 128}),
    *(
        (
            kernels.spread,
            "cells taps bias before out",
            "back",
            "OCCUPIED DILATED C",
            {"BLOCK": 128, "ACTIVATION": kind},
        )
        for kind in (kernels.NONE, kernels.RELU, kernels.GELU)
    ),
    *(
        (
            kernels.collect,
            "dilated taps bias out",
            "table",
            "OCCUPIED DILATED C",
            {"BLOCK": 128, "ACTIVATION": kind, "BIAS": kind != kernels.NONE},
        )
        for kind in (kernels.NONE, kernels.GELU)
    ),
    *(
        (
            kernels.tap_gradients,
            "dilated cells partial",
            "table",
            "OCCUPIED DILATED C",
            {"CELLS": 128, "BLOCK": 128, "ACTIVATION": kind},
        )
        for kind in (kernels.RELU, kernels.GELU)
    ),
]

for kernel, numbers, tables, sizes, constants in CASES:
    signature = (
        dict.fromkeys(numbers.split(), NUMBERS)
        | dict.fromkeys(tables.split(), TABLES)
        | dict.fromkeys(sizes.split(), "i32")
        | dict.fromkeys(constants, "constexpr")
    )
    if kernel is kernels.cell_sums:
        signature["eps"] = "fp32"
    ordered = {name: signature[name] for name in kernel.arg_names}
    built = triton.compile(ASTSource(kernel, ordered, constexprs=constants), target=TARGET)
    print(kernel.__name__, constants, len(built.asm["cubin"]), "bytes")
