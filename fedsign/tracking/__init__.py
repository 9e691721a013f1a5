"""Metrics out: CSV, W&B, progress, checkpoints."""
