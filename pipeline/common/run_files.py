"""How the files in the folder of a training are called, for everybody who writes or reads one."""

DONE = "done.json"
"""Written last and small: the only file of a training that Snakemake looks at."""
PROVENANCE = "provenance.json"
"""What a finished training was made of and with."""
