"""One file per method, or per family whose members differ by a line."""
