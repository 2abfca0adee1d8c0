"""From a store to its folder and back; no other code takes a folder's name apart."""

from __future__ import annotations

import pytest

from cache_schemas.places import PLACES, Place, folder_of, place_of


@pytest.mark.parametrize("kind", PLACES)
@pytest.mark.parametrize("dataset", ["toy", "my-own_data-set"])
def test_a_folder_says_what_it_was_made_from(kind: str, dataset: str) -> None:
    store = {"labels": "some-labels-1234567890", "features": "vit_tiny-1234567890"}.get(
        kind, f"{dataset}-1234567890"
    )
    folder = folder_of(kind, store, dataset, f"{dataset}-abcdefabcd")
    assert place_of(kind, folder) == Place(kind, store, dataset)
    assert place_of(kind, folder).digest == "1234567890"
    assert len(folder.split("/")) == len(PLACES[kind].split("/"))
    for part, pattern in zip(folder.split("/"), PLACES[kind].split("/"), strict=True):
        assert pattern in ("*", part)
