"""What became of alerts: their states, the messages that told of them, and what people said to them from outside."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ID = 'text COLLATE "C"'

STATEMENTS = (
    f"""CREATE TABLE alert_states (
    alert_id {ID} NOT NULL, key {ID} NOT NULL, level {ID} NOT NULL, category {ID} NOT NULL, source {ID} NOT NULL,
    code {ID} NOT NULL, event {ID} NOT NULL, title text NOT NULL, text text NOT NULL, exchange {ID} NOT NULL, symbol {ID} NOT NULL,
    details jsonb NOT NULL, count bigint NOT NULL, first_ns bigint NOT NULL, last_ns bigint NOT NULL, phase {ID} NOT NULL,
    changed_by text NOT NULL, changed_ns bigint NOT NULL, escalations bigint NOT NULL,
    PRIMARY KEY (alert_id, first_ns))""",
    "CREATE INDEX alert_states_active ON alert_states (last_ns DESC) WHERE phase <> 'resolved'",
    "CREATE INDEX alert_states_recent ON alert_states (last_ns DESC)",
    "COMMENT ON TABLE alert_states IS 'Every trouble from its first telling to its end. alert_id is for people, and may return.'",
    "COMMENT ON COLUMN alert_states.phase IS 'open, acknowledged or resolved; changed_by and changed_ns say by whom and when.'",
    f"""CREATE TABLE alert_deliveries (
    number bigint NOT NULL, channel {ID} NOT NULL, level {ID} NOT NULL, event {ID} NOT NULL, title text NOT NULL,
    alert_id {ID} NOT NULL, created_ns bigint NOT NULL, done_ns bigint NOT NULL, attempts bigint NOT NULL, outcome text NOT NULL,
    PRIMARY KEY (created_ns, number, channel))""",
    "COMMENT ON TABLE alert_deliveries IS 'What became of each message at each channel: delivered, or why it never will be.'",
    f"""CREATE TABLE alert_actions (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, alert_id {ID} NOT NULL, phase {ID} NOT NULL, actor text NOT NULL,
    made_ns bigint NOT NULL)""",
    "COMMENT ON TABLE alert_actions IS 'What people said to an alert from outside the alerts process, which takes it from here.'",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drop the tables and all that is in them."""
    for table in ("alert_actions", "alert_deliveries", "alert_states"):
        op.execute(f"DROP TABLE {table}")
