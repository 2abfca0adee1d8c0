"""SemanticKITTI: the scans and left colour images of KITTI's odometry benchmark, with point labels where they are there."""
