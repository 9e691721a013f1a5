"""Finished runs to tables and figures."""
