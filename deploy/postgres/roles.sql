-- The database and its two roles. Run once as a superuser, with the passwords in the environment, not in
-- arguments:
--   FORMATION_SERVER_PASSWORD=… FORMATION_WORKER_PASSWORD=… psql -X -v ON_ERROR_STOP=1 -f roles.sql
-- Then `formation-mcp-http migrate` creates the tables and grants the workers' role its rights.
\getenv server_password FORMATION_SERVER_PASSWORD
\getenv worker_password FORMATION_WORKER_PASSWORD

-- Servers own the tables and migrate them. Only they have the schema of accounts, tokens, quotas and the
-- audit log.
CREATE ROLE formation_server LOGIN PASSWORD :'server_password';
-- Workers read and write records, and nothing else. The limit keeps connections free for the servers; raise
-- it together with max_connections (ALTER ROLE formation_worker CONNECTION LIMIT …).
CREATE ROLE formation_worker LOGIN CONNECTION LIMIT 150 PASSWORD :'worker_password';

CREATE DATABASE formation OWNER formation_server ENCODING 'UTF8' TEMPLATE template0;
REVOKE ALL ON DATABASE formation FROM PUBLIC;
GRANT CONNECT ON DATABASE formation TO formation_worker;

\connect formation
REVOKE ALL ON SCHEMA public FROM PUBLIC;
-- Large objects belong to no schema, so every role could fill the disk with them.
REVOKE EXECUTE ON FUNCTION lo_creat(integer), lo_create(oid), lo_from_bytea(oid, bytea) FROM PUBLIC;
