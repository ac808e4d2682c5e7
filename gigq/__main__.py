"""`python -m gigq`."""

from gigq.cli import main

main()
