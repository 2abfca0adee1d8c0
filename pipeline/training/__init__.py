"""The loops and the folders that they leave: pretraining, probes, finetunings, evaluation, checkpoints, weights in and out.

`pretrain.py` reads from top to bottom; `run_folder.py` and `labelled_folder.py` say what lies in a finished folder, `lease.py`
who may write there.

Imports `common`, `config`, `datasets` for official results, `geometry`, `plan`, `students`, `losses` and `streaming`. Start with
`pretrain.py`.
"""
