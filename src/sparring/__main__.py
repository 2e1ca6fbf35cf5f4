"""python -m sparring."""

from sparring.cli.main import main

main()
