"""Rows and whose they are: checked, grouped by client, drawn in batches."""
