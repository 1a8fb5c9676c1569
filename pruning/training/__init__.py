"""Training: the problem, the recipe, one run of a job."""
