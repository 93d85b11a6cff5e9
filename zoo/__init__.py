"""zoo: every paper in the catalog can be read, run, checked and loaded by one name."""
