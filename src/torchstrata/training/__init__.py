"""How it is fitted: the loop and its parts."""
