"""Functions inside the database that let the recorder keep day partitions without owning the tables.

They run with the rights of the schema's owner (SECURITY DEFINER) and do three things only, on the partitioned tables only: make the
partition of a day, drop a day that is over, delete rows that no day has and that are over. They are code, not data: each
`db migrate` writes them anew, in the transaction of the migration.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from postgres.schema import PARTITIONED

SIGNATURES = ("make_day_partition(text, bigint)", "drop_day_partition(text, text)", "delete_stray_rows(text, bigint)")

_KEY_OF = """
CREATE OR REPLACE FUNCTION partition_key_of(parent text) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = {schema}, pg_temp AS $$
DECLARE key text := '{columns}'::jsonb ->> parent;
BEGIN
    IF key IS NULL THEN
        RAISE EXCEPTION 'not a table in day partitions: %', left(parent, 60) USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN key;
END $$
"""

_MAKE = """
CREATE OR REPLACE FUNCTION make_day_partition(parent text, start_ns bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
DECLARE
    key text := partition_key_of(parent);
    end_ns bigint := start_ns + 86400000000000;
    name text := parent || '_' || to_char(utc(start_ns) AT TIME ZONE 'UTC', 'YYYYMMDD');
BEGIN
    IF start_ns % 86400000000000 <> 0 THEN
        RAISE EXCEPTION 'not the start of a day: %', start_ns USING ERRCODE = 'invalid_parameter_value';
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES)', name, parent);
    -- what the DEFAULT partition took of that day moves; ATTACH needs a weaker lock on the table than CREATE ... PARTITION OF, and
    -- would refuse while such rows lie in DEFAULT
    EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', parent || '_default');
    EXECUTE format(
        'WITH moved AS (DELETE FROM %I WHERE %I >= %s AND %I < %s RETURNING *) INSERT INTO %I SELECT * FROM moved',
        parent || '_default', key, start_ns, key, end_ns, name);
    EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)', parent, name, start_ns, end_ns);
END $$
"""

_DROP = """
CREATE OR REPLACE FUNCTION drop_day_partition(parent text, day text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
BEGIN
    PERFORM partition_key_of(parent);
    IF day !~ '^[0-9]{{8}}$' OR day >= to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD') THEN
        RAISE EXCEPTION 'not a day that is over: %', left(day, 20) USING ERRCODE = 'invalid_parameter_value';
    END IF;
    EXECUTE format('DROP TABLE %I', parent || '_' || day);
END $$
"""

_DELETE = """
CREATE OR REPLACE FUNCTION delete_stray_rows(parent text, before_ns bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
DECLARE deleted bigint;
BEGIN
    PERFORM partition_key_of(parent);
    IF utc(before_ns) > now() THEN
        RAISE EXCEPTION 'not a time that is over: %', before_ns USING ERRCODE = 'invalid_parameter_value';
    END IF;
    EXECUTE format('DELETE FROM %I WHERE ts_pub_ns < $1', parent || '_default') USING before_ns;
    GET DIAGNOSTICS deleted = ROW_COUNT;
    RETURN deleted;
END $$
"""


def routines(schema: str) -> Iterator[str]:
    """The statements that write the functions of a schema anew; nobody but their owner may call them until that is granted."""
    for text in (_KEY_OF, _MAKE, _DROP, _DELETE):
        yield text.format(schema=f'"{schema}"', columns=json.dumps(PARTITIONED))
    for signature in SIGNATURES:
        yield f"REVOKE ALL ON FUNCTION {signature} FROM PUBLIC"


def without_routines() -> Iterator[str]:
    """The statements that take the functions away, before older tables come back."""
    for signature in (*SIGNATURES, "partition_key_of(text)"):
        yield f"DROP FUNCTION IF EXISTS {signature}"
