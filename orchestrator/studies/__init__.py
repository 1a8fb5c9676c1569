"""Studies as a whole: bundles, merging, pruning."""
