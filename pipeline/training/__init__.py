"""Training loops, and the folders that they write: pretraining, probes, finetunings, evaluation, checkpoints, import and export.

`pretrain.py` reads from top to bottom. `run_folder.py` and `labelled_folder.py` write a finished folder, `weights_folder.py` reads
its weights, and `lease.py` decides who may write there.

Imports `common`, `config`, `datasets` for official results, `geometry`, `plan`, `students`, `losses` and `streaming`. Start with
`pretrain.py`.
"""
