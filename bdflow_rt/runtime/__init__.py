"""Running a model over whole pictures: tiles, memory, Z, refinement."""
