"""Redis Streams and nothing else: how the processes meet. DESIGN.md §4 has the promises."""
