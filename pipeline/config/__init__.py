"""What a user may ask for: the typed model of a config file, and what is known of teachers before any is loaded.

`model.py` has the blocks of datasets, students and the whole file, `teacher.py` and `training.py` the others; `blocks.py` says
which keys enter an id. `registry.py` lists the published teachers; `layer.py` and `model_names.py` read what names say.

Imports `common` for the names of a run's files, and neither torch nor timm. Start with `model.py`, then `load.py`.
"""
