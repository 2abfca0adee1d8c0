"""SemanticKITTI: the 19 classes of its single-scan benchmark, and the ids that its label files hold.

Source: PRBonn/semantic-kitti-api, config/semantic-kitti.yaml (`learning_map`, `learning_map_inv`, `split`); index in a
network = its class - 1, its class 0 is ignored. Moving things count as what they are.
"""

CLASSES = (
    "car",
    "bicycle",
    "motorcycle",
    "truck",
    "other-vehicle",
    "person",
    "bicyclist",
    "motorcyclist",
    "road",
    "parking",
    "sidewalk",
    "other-ground",
    "building",
    "fence",
    "vegetation",
    "trunk",
    "terrain",
    "pole",
    "traffic-sign",
)

IGNORE = 255

_BENCHMARK_OF_ID = {
    0: 0, 1: 0, 10: 1, 11: 2, 13: 5, 15: 3, 16: 5, 18: 4, 20: 5, 30: 6, 31: 7, 32: 8, 40: 9, 44: 10, 48: 11, 49: 12,
    50: 13, 51: 14, 52: 0, 60: 9, 70: 15, 71: 16, 72: 17, 80: 18, 81: 19, 99: 0,
    252: 1, 253: 7, 254: 6, 255: 8, 256: 5, 257: 5, 258: 4, 259: 5,
}  # fmt: skip

CLASS_OF_ID = {raw: (number - 1 if number else IGNORE) for raw, number in _BENCHMARK_OF_ID.items()}
"""For each id of the label files its class 0 to 18, or 255."""

ID_OF_CLASS = (10, 11, 15, 18, 20, 30, 31, 32, 40, 44, 48, 49, 50, 51, 70, 71, 72, 80, 81)
"""For each class the id that predictions are written as."""

SCANS_OF_SEQUENCE = {
    "00": 4541, "01": 1101, "02": 4661, "03": 801, "04": 271, "05": 2761, "06": 1101, "07": 1101, "08": 4071, "09": 1591,
    "10": 1201, "11": 921, "12": 1061, "13": 3281, "14": 631, "15": 1901, "16": 1731, "17": 491, "18": 1801, "19": 4981,
    "20": 831, "21": 2721,
}  # fmt: skip
"""Lidar files in each sequence of KITTI's odometry benchmark: 23,201 with labels (19,130 train, 4,071 val), 20,351 of test, as
the paper has them (Behley et al., ICCV 2019, table 1)."""

SPLIT_OF_SEQUENCE = (
    {f"{number:02d}": "train" for number in (*range(8), 9, 10)}
    | {"08": "val"}
    | {f"{number:02d}": "test" for number in range(11, 22)}
)
