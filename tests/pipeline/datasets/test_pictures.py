"""Pictures that are the same are warned of; one picture that serves several scans is not."""

from __future__ import annotations

import numpy as np

from pipeline.datasets.data_warnings import Warnings
from pipeline.datasets.image_checks import Pictures


def test_the_same_picture_of_another_file_is_warned_of_and_one_file_of_two_scans_is_not() -> None:
    picture = np.linspace(0, 1, 300, dtype=np.float32).reshape(10, 10, 3)
    pictures, warnings = Pictures(), Warnings(())
    for row, path in enumerate(("a.png", "a.png", "b.png")):
        pictures.note(row, path, picture)
    pictures.warn(warnings)
    (entry,) = warnings.entries(3, "images")
    assert (entry["count"], entry["why"]) == (1, "it is the same picture as a.png")
    assert "the first b.png" in entry["what"]
