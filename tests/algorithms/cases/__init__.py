"""Which configs of every method are compared with its naive loop, a module per family.

`CASES` maps a name to (method, keys of algorithm.*, keys of local.*); `AT_ZERO` to (method, keys) whose arithmetic is
exact in float32, for runs in which signs are taken of zero; `FLOORS` a method to (overrides, accuracy) that its best
accuracy on real digits must exceed, set below a measured value; ``draws(method, keys, d)`` gives the random draws
of the run as the loop's keyword arguments, and may take keys that only they need out of `keys`. `WANDERING` are the
cases that need not come nearer to the optimum.
"""

import importlib
import pkgutil

MODULES = [importlib.import_module(f"cases.{m.name}") for m in pkgutil.iter_modules(__path__) if m.name != "draws"]
CASES = {name: case for module in MODULES for name, case in module.CASES.items()}
AT_ZERO = {name: case for module in MODULES for name, case in module.AT_ZERO.items()}
FLOORS = {method: floor for module in MODULES for method, floor in module.FLOORS.items()}
DRAWS = {method: module.draws for module in MODULES for method, _, _ in module.CASES.values()}
WANDERING = {case for module in MODULES for case in getattr(module, "WANDERING", ())}
