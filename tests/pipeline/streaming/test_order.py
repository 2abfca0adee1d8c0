"""Which scans, cameras and variants make which batch: pure functions of the seed, the step and the scan."""

from collections import Counter

import numpy as np
import pytest

from cache_schemas.errors import BadInput
from pipeline.common.random import generator
from pipeline.streaming.order import (
    PARTITIONS_MIXED,
    Draw,
    ScanPlace,
    batch_of_step,
    draw,
    order_of_epoch,
    places_of_step,
    steps_per_epoch,
)


def scans(count: int, views: int = 6) -> list[ScanPlace]:
    """Scans in partitions of ten; each has `views` usable views."""
    return [
        ScanPlace(n // 10, "roads", f"scan-{n}", tuple(range(n % 10 * views, (n % 10 + 1) * views)))
        for n in range(count)
    ]


def batches(
    places: list[ScanPlace], steps: range, *, seed: int = 0, batch: int = 4, variants: int = 3
) -> list[list[Draw]]:
    return [batch_of_step(places, seed=seed, step=step, batch=batch, variants=variants) for step in steps]


def choices(drawn: list[list[Draw]]) -> dict[tuple[int, str], tuple[int, int]]:
    """(epoch, scan) -> what was drawn of it: view within its scan, variant."""
    return {(d.epoch, d.scan.name): (d.scan.views.index(d.view), d.variant) for batch in drawn for d in batch}


def test_every_scan_once_in_an_epoch_and_each_epoch_in_another_order() -> None:
    places = scans(24)
    epochs = [
        [d.scan.name for batch in batches(places, range(first, first + 6)) for d in batch]
        for first in (0, 6, 12)
    ]
    for order in epochs:
        assert Counter(order) == Counter(place.name for place in places)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert [d.epoch for batch in batches(places, range(5, 7)) for d in batch] == [0] * 4 + [1] * 4


def test_what_fills_no_whole_batch_is_left_out_of_this_epoch_and_not_of_all() -> None:
    places = scans(27)
    assert steps_per_epoch(27, 4) == 6
    missed = set()
    for epoch in range(12):
        drawn = batches(places, range(epoch * 6, epoch * 6 + 6))
        names = [d.scan.name for batch in drawn for d in batch]
        assert len(names) == len(set(names)) == 24
        missed |= {place.name for place in places} - set(names)
        assert {d.epoch for batch in drawn for d in batch} == {epoch}
    assert len(missed) > 9  # always the same three would be a bug


def test_a_step_is_the_same_whoever_asks_and_whatever_ran_before() -> None:
    places = scans(24)
    forward = batches(places, range(18))
    backward = [batches(places, range(step, step + 1))[0] for step in reversed(range(18))]
    assert forward == backward[::-1]
    # Ranks that take every second step, and a restart in the middle, find the same ones.
    assert [b for rank in (0, 1) for b in batches(places, range(rank, 18, 2))] == forward[0::2] + forward[
        1::2
    ]
    assert batches(places, range(7, 18)) == forward[7:]


def test_another_seed_draws_another_order_and_other_cameras() -> None:
    places = scans(24)
    zero, one = batches(places, range(6)), batches(places, range(6), seed=1)
    assert [[d.scan for d in b] for b in zero] != [[d.scan for d in b] for b in one]
    first, second = choices(zero), choices(one)
    assert sum(first[key] == second[key] for key in first) < len(first) / 2


def test_camera_and_variant_of_a_scan_do_not_depend_on_the_others() -> None:
    """Fewer scans, another order, other partitions, another batch: the same scan draws the same."""
    places = scans(24)
    all_of_them = choices(batches(places, range(12)))
    some = [ScanPlace(7 + p.reading, p.dataset, p.name, p.views) for p in reversed(places[8:20])]
    fewer = choices(batches(some, range(8), batch=3))
    assert len(fewer) == 24
    assert {key: all_of_them[key] for key in fewer} == fewer


def test_augmentation_depends_on_the_key_alone_and_on_all_of_it() -> None:
    def numbers(*key: str | int) -> list[float]:
        return generator(*key).random(4).tolist()

    key = (0, "augment", 3, "roads", "scan-1")
    first = numbers(*key)
    generator(5, "something else").random(1000)
    assert numbers(*key) == first
    others = [
        (1, "augment", 3, "roads", "scan-1"),
        (0, "view", 3, "roads", "scan-1"),
        (0, "augment", 4, "roads", "scan-1"),
        (0, "augment", 3, "streets", "scan-1"),
        (0, "augment", 3, "roads", "scan-2"),
        (0, "augment", "3", "roads", "scan-1"),
    ]
    assert first not in [numbers(*other) for other in others]


def test_cameras_and_variants_are_drawn_uniformly() -> None:
    place = scans(1)[0]
    drawn = [draw(place, seed=0, epoch=epoch, variants=3) for epoch in range(3000)]
    pairs = Counter((d.view, d.variant) for d in drawn)
    assert len(pairs) == 18
    expected = 3000 / 18
    # 17 degrees of freedom: over 41 once in a thousand seeds, and this one is fixed.
    assert sum((count - expected) ** 2 / expected for count in pairs.values()) < 41


def test_scans_do_not_draw_the_same_camera_in_step() -> None:
    places = scans(400)
    views = np.array([p.views.index(draw(p, seed=0, epoch=0, variants=1).view) for p in places])
    assert np.bincount(views, minlength=6).min() > 40


def test_only_usable_views_are_drawn() -> None:
    place = ScanPlace(0, "roads", "scan-1", (7, 9))
    assert {draw(place, seed=0, epoch=e, variants=2).view for e in range(50)} == {7, 9}
    only = ScanPlace(0, "roads", "scan-1", (3,))
    assert {draw(only, seed=0, epoch=e, variants=1).view for e in range(5)} == {3}


def test_a_batch_larger_than_all_scans_is_refused() -> None:
    with pytest.raises(BadInput, match=r"pretrain.batch is 5, but there are only 4 scan\(s\)"):
        batch_of_step(scans(4), seed=0, step=0, batch=5, variants=1)
    assert steps_per_epoch(4, 4) == 1


SIZES = tuple(int(size) for size in np.random.default_rng(0).integers(1, 60, 300))
"""Scans of 300 partitions."""


def test_few_partitions_are_open_at_a_time_and_each_batch_mixes_many() -> None:
    partition = np.repeat(np.arange(300), SIZES)
    for epoch in range(3):
        order = partition[order_of_epoch(SIZES, 0, epoch)]
        first = np.array([np.flatnonzero(order == p)[0] for p in range(300)])
        last = np.array([np.flatnonzero(order == p)[-1] for p in range(300)])
        open_at = [int(((first <= at) & (at <= last)).sum()) for at in range(len(order))]
        assert max(open_at) <= PARTITIONS_MIXED
        in_batch = [len(set(order[at : at + 8].tolist())) for at in range(0, len(order) - 8, 8)]
        assert np.mean(in_batch) > 6


def test_the_order_of_an_epoch_goes_through_all_scans_of_all_partitions() -> None:
    orders = [order_of_epoch(SIZES, 0, epoch) for epoch in range(3)] + [order_of_epoch(SIZES, 1, 0)]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(sum(SIZES)))
    assert len({tuple(order[:20].tolist()) for order in orders}) == 4
    # Partitions, too, come in another order: the same ones are not always mixed with each other.
    first = [set(np.searchsorted(np.cumsum(SIZES), order[:1000], side="right").tolist()) for order in orders]
    assert len(first[0] & first[1]) < 40


def test_the_order_is_what_it_was() -> None:
    """A change here trains every student on another order: raise PRETRAIN_ALGORITHM and PROBE_ALGORITHM with it."""
    assert order_of_epoch((2, 3, 4), 0, 0).tolist() == [1, 0, 7, 3, 5, 6, 2, 8, 4]
    assert order_of_epoch(SIZES, 3, 5)[::1000].tolist() == [
        1501,
        2101,
        638,
        1979,
        4825,
        4880,
        2896,
        8249,
        6727,
        683,
    ]


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_ranks_that_share_each_batch_see_the_same_samples_in_the_same_order(ranks: int) -> None:
    for step in (0, 17, 2000):
        epoch, places = places_of_step(SIZES, seed=0, step=step, batch=8)
        shares = []
        for rank in range(ranks):
            order_of_epoch.cache_clear()  # a process of its own
            again, mine = places_of_step(SIZES, seed=0, step=step, batch=8)
            assert again == epoch
            shares.append(mine[rank::ranks])
        assert [place for of_all in zip(*shares, strict=True) for place in of_all] == places
