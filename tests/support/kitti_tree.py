"""Calibration files of KITTI's odometry sequences, as text."""

from __future__ import annotations

import numpy as np

TURN = np.array([[0.0, -1.0, 0.0, -0.01], [0.0, 0.0, -1.0, -0.05], [1.0, 0.0, 0.0, -0.3]])
"""From the lidar (x forward) to the grey camera (z forward)."""
CAMERA = np.array([[72.0, 0, 60.0, 4.5], [0, 72.0, 18.0, -0.1], [0, 0, 1, 0.003]])


def calibration_text(**matrices: np.ndarray) -> str:
    lines = [f"{key}: " + " ".join(f"{value:.12e}" for value in m.ravel()) for key, m in matrices.items()]
    return "".join(line + "\n" for line in lines)


WHOLE = calibration_text(P0=CAMERA, P1=CAMERA, P2=CAMERA, P3=CAMERA, Tr=TURN)
WITHOUT_TR = calibration_text(P0=CAMERA, P1=CAMERA, P2=CAMERA, P3=CAMERA)
