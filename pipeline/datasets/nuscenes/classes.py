"""nuScenes-lidarseg: the 16 classes of its benchmark, from the 32 that are annotated.

Source: the nuScenes devkit's lidarseg challenge (nuscenes/eval/lidarseg); index in a network = challenge index - 1.
"""

CLASSES = (
    "barrier",
    "bicycle",
    "bus",
    "car",
    "construction_vehicle",
    "motorcycle",
    "pedestrian",
    "traffic_cone",
    "trailer",
    "truck",
    "driveable_surface",
    "other_flat",
    "sidewalk",
    "terrain",
    "manmade",
    "vegetation",
)

IGNORE = 255

_CHALLENGE_OF_RAW = {
    2: 7, 3: 7, 4: 7, 6: 7, 9: 1, 12: 8, 14: 2, 15: 3, 16: 3, 17: 4, 18: 5, 21: 6, 22: 9, 23: 10,
    24: 11, 25: 12, 26: 13, 27: 14, 28: 15, 30: 16,
}  # fmt: skip

RAW_CLASSES = 32

CLASS_OF_RAW = tuple(
    _CHALLENGE_OF_RAW[raw] - 1 if raw in _CHALLENGE_OF_RAW else IGNORE for raw in range(RAW_CLASSES)
)
"""For each raw class 0 to 31 its class 0 to 15, or 255."""
