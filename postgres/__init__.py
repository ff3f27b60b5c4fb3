"""The history: schema and migrations, the recorder that fills it, and the queries that read it."""
