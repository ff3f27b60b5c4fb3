"""Drop-in strategies: each file is one. Nobody imports this package; the bot loads the files by their paths."""
