"""`python -m perdure.console` is the command `perdure`."""

from .cli import main

main()
