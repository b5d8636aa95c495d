"""Where cells are carried out: processes, pools, clusters."""
