"""Many fits, fairly compared."""
