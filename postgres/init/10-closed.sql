-- Run once, by the image, on an empty volume: nobody but the administrator gets in until `tradebot db roles` has made the roles.
REVOKE ALL ON DATABASE tradebot FROM PUBLIC;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;

-- A log that tells what was slow, who waited and who came in vain, and never a statement's values.
ALTER SYSTEM SET log_min_duration_statement = '1s';
ALTER SYSTEM SET log_parameter_max_length = 0;
ALTER SYSTEM SET log_parameter_max_length_on_error = 0;
ALTER SYSTEM SET log_lock_waits = on;
ALTER SYSTEM SET log_timezone = 'UTC';
ALTER SYSTEM SET timezone = 'UTC';

-- A small server for one writer and a few readers, within the memory that docker-compose.yml gives it.
ALTER SYSTEM SET shared_buffers = '128MB';
ALTER SYSTEM SET work_mem = '8MB';
ALTER SYSTEM SET max_connections = 60;
ALTER SYSTEM SET max_wal_size = '1GB';
ALTER SYSTEM SET idle_in_transaction_session_timeout = '5min';
ALTER SYSTEM SET jit = off;
