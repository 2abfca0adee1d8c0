"""SLidR's mini split of nuScenes: its 700 train scenes, 600 to learn from and 100 to choose numbers by.

Source: SLidR's pretrain/dataloader_nuscenes.py (the "verifying" scenes; all are in the official train split). It leaves the
official val split for the numbers that are published.
"""

from __future__ import annotations

_VERIFYING = """
    0008 0009 0019 0029 0032 0042 0045 0049 0052 0054 0056 0066 0067 0073 0131 0152 0166 0168 0183 0190
    0194 0208 0210 0211 0241 0243 0248 0259 0260 0261 0287 0292 0297 0305 0306 0350 0352 0358 0361 0365
    0368 0377 0388 0391 0395 0413 0427 0428 0438 0444 0452 0453 0459 0463 0464 0475 0513 0533 0544 0575
    0587 0589 0642 0652 0658 0669 0678 0687 0701 0703 0706 0710 0715 0726 0735 0740 0758 0786 0790 0804
    0806 0847 0856 0868 0882 0897 0899 0976 0996 1012 1015 1016 1018 1020 1024 1044 1058 1094 1098 1107
"""

MINI_VAL = tuple(f"scene-{number}" for number in _VERIFYING.split())
"""The 100 scenes, 4,021 keyframes, that are scored; the other 600 of train have 24,109."""
