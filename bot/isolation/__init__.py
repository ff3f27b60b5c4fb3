"""Plugins in processes of their own: what one does wrong, it does to itself only. docs/adding-a-plugin.md says what this is not."""
