"""PandaSet: the 17 classes of ScaLR's benchmark, from the 42 that are annotated.

Source: ScaLR's released code, datasets/pandaset_for_scalr.py; index in a network = its class number - 1. The raw
classes are those of `annotations/semseg/classes.json`; 0 is for points without any.
"""

CLASSES = (
    "road",
    "traffic_sign",
    "barrier",
    "pedestrian",
    "vegetation",
    "road_marking",
    "sidewalk",
    "manmade",
    "traffic_cone",
    "car",
    "motorcycle",
    "truck",
    "bus",
    "bicycle",
    "other_vehicle",
    "ground",
    "driveway",
)

IGNORE = 255

_NUMBER_OF_RAW = {
    5: 5, 6: 16, 7: 1, 8: 6, 9: 6, 10: 6, 11: 7, 12: 17, 13: 10, 14: 12, 15: 12, 16: 12, 17: 15, 18: 11, 19: 15,
    20: 15, 21: 15, 23: 13, 26: 14, 27: 15, 28: 15, 29: 15, 30: 4, 31: 4, 34: 9, 35: 3, 36: 2, 37: 9, 38: 2, 39: 3,
    41: 8, 42: 8,
}  # fmt: skip

RAW_CLASSES = 43

CLASS_OF_RAW = tuple(
    _NUMBER_OF_RAW[raw] - 1 if raw in _NUMBER_OF_RAW else IGNORE for raw in range(RAW_CLASSES)
)
"""For each raw class 0 to 42 its class 0 to 16, or 255: smoke, reflections, animals, emergency vehicles and the like."""
