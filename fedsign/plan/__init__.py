"""``fedsign plan``: what a preset or a command would cost, before anyone pays."""
