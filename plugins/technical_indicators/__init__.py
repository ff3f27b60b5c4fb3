"""Classic indicators, one strategy each."""
