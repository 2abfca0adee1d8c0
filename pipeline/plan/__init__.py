"""What is to be made, before it is made: from a config and the indices to stores, lots and runs with their ids and folders.

`experiment.py` is a config together with its indices. `plan.py` puts together what `pretraining.py`, `probes.py` and
`finetunes.py` make of it. `identity.py` says what enters an id, `parts.py` what a plan is made of, `lot_status.py` what is done
already, and `cost/` how much work and disk the rest needs.

Imports `common`, `config`, `datasets` and `geometry`; neither torch nor zarr: it is read in a fraction of a second. Start with
`experiment.py`, then `plan.py`.
"""
