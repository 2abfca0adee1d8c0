"""What a call of Snakemake did, read from what it printed."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any


def rules_run(done: Any) -> Counter[str]:
    """How many jobs of each rule a call finished; targets such as `pretrain_all` are left out."""
    rules = re.findall(r"^Finished jobid: \d+ \(Rule: (\w+)\)", done.stdout + done.stderr, re.MULTILINE)
    return Counter(rule for rule in rules if not rule.endswith("_all"))
