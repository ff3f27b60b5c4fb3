"""`python -m tradebot`."""

from tradebot.cli import main

main()
