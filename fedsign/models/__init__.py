"""Models, one file per family, and their flat vector."""
