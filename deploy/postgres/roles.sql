-- The database and its two roles; run once as a superuser, with the passwords in the environment, never in an argument:
--   FORMATION_SERVER_PASSWORD=… FORMATION_WORKER_PASSWORD=… psql -X -v ON_ERROR_STOP=1 -f roles.sql
-- Then `formation-mcp-http migrate` makes the tables, and grants the workers' role what it may have.
\getenv server_password FORMATION_SERVER_PASSWORD
\getenv worker_password FORMATION_WORKER_PASSWORD

-- Servers own the tables: they migrate them, and alone have the schema of accounts, tokens, quotas and the audit log.
CREATE ROLE formation_server LOGIN PASSWORD :'server_password';
-- Workers read and write records, and nothing else. The limit keeps connections for the servers, whatever workers do: raise it
-- with max_connections (ALTER ROLE formation_worker CONNECTION LIMIT …).
CREATE ROLE formation_worker LOGIN CONNECTION LIMIT 150 PASSWORD :'worker_password';

CREATE DATABASE formation OWNER formation_server ENCODING 'UTF8' TEMPLATE template0;
REVOKE ALL ON DATABASE formation FROM PUBLIC;
GRANT CONNECT ON DATABASE formation TO formation_worker;

\connect formation
REVOKE ALL ON SCHEMA public FROM PUBLIC;
-- Large objects belong to no schema: everybody could fill the disk with them.
REVOKE EXECUTE ON FUNCTION lo_creat(integer), lo_create(oid), lo_from_bytea(oid, bytea) FROM PUBLIC;
