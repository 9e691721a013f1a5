"""Byzantine clients and the aggregation rules that withstand them."""
