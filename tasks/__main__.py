"""`python -m tasks` is `overnight`, if the console script is not on the path."""

from tasks.console.cli import main

main()
