"""A result for the eye: plots, tables in text, the pieces of the page."""
