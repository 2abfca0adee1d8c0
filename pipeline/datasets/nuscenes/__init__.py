"""nuScenes, with lidarseg where its labels are there."""
