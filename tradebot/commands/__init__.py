"""The commands of `tradebot`, one file per subject. Each imports what it needs when it runs."""
