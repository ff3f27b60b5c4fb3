"""Alembic's entry: run the migrations on the connection that `postgres.migrate` hands over.

There is no alembic.ini: address and schema come from the settings, so that one set of migrations serves every mode.
"""

from __future__ import annotations

from alembic import context

connection = context.config.attributes.get("connection")
if connection is None:
    raise SystemExit("run migrations with `tradebot db migrate`, which knows the address and the mode")

context.configure(
    connection=connection,
    target_metadata=None,
    version_table_schema=context.config.attributes["schema"],
    transactional_ddl=True,
)
# No begin_transaction() here: postgres.migrate holds one transaction around lock, gate and all steps.
context.run_migrations()
