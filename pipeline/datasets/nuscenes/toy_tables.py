"""The nuScenes tables of a toy tree: what never changes, and how scenes' rows come together.

The format's own words apply: a *sample* is a keyframe, a *sample_data* one recording of one sensor.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

LIDAR = "LIDAR_TOP"
CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_FRONT_LEFT")
SCENE_TABLES = ("log", "scene", "sample", "sample_data", "ego_pose", "calibrated_sensor")
LOCATION = "boston-seaport"

CATEGORIES = (  # lidarseg: the place in this list is the class number in label files
    "noise", "animal",
    "human.pedestrian.adult", "human.pedestrian.child", "human.pedestrian.construction_worker",
    "human.pedestrian.personal_mobility", "human.pedestrian.police_officer", "human.pedestrian.stroller",
    "human.pedestrian.wheelchair",
    "movable_object.barrier", "movable_object.debris", "movable_object.pushable_pullable",
    "movable_object.trafficcone",
    "static_object.bicycle_rack",
    "vehicle.bicycle", "vehicle.bus.bendy", "vehicle.bus.rigid", "vehicle.car", "vehicle.construction",
    "vehicle.emergency.ambulance", "vehicle.emergency.police", "vehicle.motorcycle", "vehicle.trailer",
    "vehicle.truck",
    "flat.driveable_surface", "flat.other", "flat.sidewalk", "flat.terrain",
    "static.manmade", "static.other", "static.vegetation", "vehicle.ego",
)  # fmt: skip
_ATTRIBUTES = (
    "vehicle.moving", "vehicle.stopped", "vehicle.parked", "cycle.with_rider", "cycle.without_rider",
    "pedestrian.sitting_lying_down", "pedestrian.standing", "pedestrian.moving",
)  # fmt: skip
_VISIBILITIES = ("v0-40", "v40-60", "v60-80", "v80-100")


def token(*parts: str | int) -> str:
    """The token (32 hex digits) of what the parts name; the same in every tree."""
    return hashlib.sha256("/".join(map(str, ("toy", *parts))).encode()).hexdigest()[:32]


def map_file() -> str:
    """Path of the one map mask, relative to the dataset's root."""
    return f"maps/{token('map', LOCATION)}.png"


def sensor_token(channel: str) -> str:
    return token("sensor", channel)


def build_tables(scenes: Iterable[dict], labels: dict[str, str]) -> dict[str, list[dict]]:
    """All tables over some scenes.

    scenes: what each scene's record holds under "tables", in the order that they shall have; labels: label
    files by lidar sample_data token, relative to the root (a tree without any has no lidarseg table).
    """
    tables: dict[str, list[dict]] = {name: [] for name in SCENE_TABLES}
    for scene in scenes:
        for name in SCENE_TABLES:
            tables[name] += scene[name]
    if labels:
        tables["lidarseg"] = [
            {"token": data, "sample_data_token": data, "filename": filename}
            for data, filename in labels.items()
        ]
    return tables | _fixed_tables([row["token"] for row in tables["log"]])


def _fixed_tables(logs: list[str]) -> dict[str, list[dict]]:
    categories = [
        {"token": token("category", name), "name": name, "description": f"{name} (toy)", "index": index}
        for index, name in enumerate(CATEGORIES)
    ]
    attributes = [
        {"token": token("attribute", n), "name": n, "description": f"{n} (toy)"} for n in _ATTRIBUTES
    ]
    visibilities = [
        {"token": str(k), "level": level, "description": f"visibility of whole object is in {level[1:]} %"}
        for k, level in enumerate(_VISIBILITIES, start=1)
    ]
    sensors = [
        {"token": sensor_token(c), "channel": c, "modality": "lidar" if c == LIDAR else "camera"}
        for c in (*CAMERAS, LIDAR)
    ]
    masks = [
        {
            "token": token("map", LOCATION),
            "log_tokens": logs,
            "category": "semantic_prior",
            "filename": map_file(),
        }
    ]
    return {
        "category": categories,
        "attribute": attributes,
        "visibility": visibilities,
        "sensor": sensors,
        "map": masks,
        "instance": [],
        "sample_annotation": [],
    }
