"""`python -m edgewright.cli`: the command line."""

from edgewright.cli.main import main

main()
