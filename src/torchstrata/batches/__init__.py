"""Which rows meet in a step, and how they get to the device."""
