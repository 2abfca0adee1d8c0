"""Every figure of a GPU, by one command: `python -m benchmarks.gpu --minutes 6`.

A GPU is rented by the minute, on a bare machine without a network. `pack.sh` puts all that it needs into one folder
(`packed.py` says what lies where), `go.sh` installs from it there and starts the run. `follow.py` runs each of the
`sections/` in processes of its own, these run their `cells.py`, `results.py` keeps the JSON, and `tables.py` turns it
into the tables of docs/gpu.md.
`kernels.py` and `floors.py` say what can be said without a GPU. Modules of the folder above are imported by their
plain names, as its own scripts do.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))
