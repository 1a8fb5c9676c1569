"""Fronts, comparisons, figures and the HTML page, from a plain table of trials."""
