"""The papers' pseudo-code as plain loops on the consensus problem, in float64 and with nothing of fedsign in it.

One module per family; its `METHODS` maps a choice of ``algorithm=`` to its loop, which returns the models after each
round.
"""

import importlib
import pkgutil

from naive.problem import SERVER, Problem

MODULES = [importlib.import_module(f"naive.{m.name}") for m in pkgutil.iter_modules(__path__) if m.name != "problem"]
METHODS = {name: loop for module in MODULES for name, loop in module.METHODS.items()}

__all__ = ["METHODS", "SERVER", "Problem"]
