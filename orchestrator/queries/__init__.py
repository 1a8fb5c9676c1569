"""Questions to the trial database."""
