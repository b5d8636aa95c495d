"""What makes a folder of results survive: records, identities, claims."""
