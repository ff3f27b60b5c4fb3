"""What `tradebot plugin new` starts from: each `X.py` is a working strategy, and `X_test.py` its test, with names to be replaced.

They are ordinary modules, so linter, type checker and tests look at them like at any other code. Nothing imports them.
"""
