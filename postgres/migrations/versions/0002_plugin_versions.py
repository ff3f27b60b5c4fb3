"""Which version of which plugin said or wanted what, and how the plugins are."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ID = 'text COLLATE "C"'

COLUMNS = (
    ("signals", "version", f"{ID} NOT NULL DEFAULT ''", "The first 12 characters of the SHA-256 of the plugin's file."),
    ("signals", "shadow", "boolean NOT NULL DEFAULT false", "Recorded only: it moved nothing."),
    ("decisions", "made_by", "text[] NOT NULL DEFAULT '{}'", "The plugins that wanted it, as name@version."),
    ("orders", "made_by", "text[] NOT NULL DEFAULT '{}'", "The plugins that wanted it, as name@version."),
    ("order_events", "made_by", "text[] NOT NULL DEFAULT '{}'", "The plugins that wanted it, as name@version."),
    (
        "alerts",
        "category",
        f"{ID} NOT NULL DEFAULT ''",
        "market_data, orders, risk, trading, plugins, system, storage or monitoring.",
    ),
    ("alerts", "resolves", "boolean NOT NULL DEFAULT false", "Says that the trouble of this code, exchange and symbol is over."),
)

PLUGINS = f"""
CREATE TABLE plugins (
    name {ID} NOT NULL, path text NOT NULL, state {ID} NOT NULL, mode {ID} NOT NULL, version {ID} NOT NULL, reason text NOT NULL,
    pid bigint NOT NULL, callbacks text[] NOT NULL, warm_up bigint NOT NULL, waiting_for text[] NOT NULL, events bigint NOT NULL,
    signals bigint NOT NULL, errors bigint NOT NULL, call_p99_us bigint NOT NULL, memory_bytes bigint NOT NULL,
    heartbeat text NOT NULL, ts_event_ns bigint NOT NULL, ts_pub_ns bigint NOT NULL, message_id {ID} NOT NULL,
    PRIMARY KEY (name)
)"""
COMMENT = (
    "COMMENT ON TABLE plugins IS 'Every plugin as the bot told it last; what became of it is among the alerts."
    " call_p99_us in microseconds; counts since the version started.'"
)


def upgrade() -> None:
    for table, column, kind, words in COLUMNS:
        op.execute(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")
        op.execute(f"COMMENT ON COLUMN {table}.{column} IS $${words}$$")
    op.execute(PLUGINS)
    op.execute(COMMENT)


def downgrade() -> None:
    """Drop the table and the columns and all that is in them."""
    op.execute("DROP TABLE plugins")
    for table, column, _, _ in reversed(COLUMNS):
        op.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
