"""`snakemake --lint`, all but its demand for a conda environment or container: we install with pip."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

repository = Path(__file__).resolve().parents[1]
with tempfile.TemporaryDirectory() as folder:
    tree = Path(folder) / "toy"
    subprocess.run(
        ["griddle", "toy", "--root", str(tree), "--train", "1", "--val", "1", "--scans", "1"], check=True
    )
    config = yaml.safe_load((repository / "config" / "tiny.yaml").read_text())
    config["datasets"]["nuscenes"]["root"] = str(tree)
    (Path(folder) / "tiny.yaml").write_text(yaml.safe_dump(config))
    command = [
        "snakemake",
        "--lint",
        "--snakefile",
        str(repository / "Snakefile"),
        "--configfile",
        "tiny.yaml",
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)

found = re.findall(r"^(Lints for .*)|^    \* (.*)", done.stderr, re.MULTILINE)
place, complaints = "", []
for where, complaint in found:
    place = where or place
    if complaint and "conda environment or container" not in complaint:
        complaints.append(f"{place} {complaint}")
if not found and "Congratulations" not in done.stderr:
    sys.exit(f"snakemake --lint failed\n{done.stdout}\n{done.stderr}")
print("\n".join(complaints) or "no complaint")
sys.exit(bool(complaints))
