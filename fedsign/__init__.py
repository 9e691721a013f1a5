"""fedsign: one-bit federated learning, reproduced."""

__version__ = "0.1.0"
