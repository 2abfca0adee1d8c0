"""What a worker process raises reaches the user in our words, without a worker's traceback."""

from __future__ import annotations

from typing import Any

import pytest
from torch.utils.data import Dataset

from cache_schemas.errors import DamagedCache
from pipeline.streaming.view_batches import stream


class Broken(Dataset[Any]):
    def __getitem__(self, step: int) -> int:
        if step == 2:
            raise DamagedCache("chunk 7 of a.zarr is not the one that was written")
        return step


@pytest.mark.parametrize("workers", [0, 1])
def test_our_errors_keep_their_words_and_their_place(workers: int) -> None:
    batches = stream(Broken(), 0, 4, workers, pin=False)
    assert [next(batches), next(batches)] == [0, 1]
    with pytest.raises(DamagedCache) as raised:
        next(batches)
    assert str(raised.value) == "chunk 7 of a.zarr is not the one that was written"
