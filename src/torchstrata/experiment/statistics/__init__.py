"""What a table of scores says: intervals, differences, ranks."""
