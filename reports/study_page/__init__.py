"""The report of one study: an HTML page with its figures and tables."""
