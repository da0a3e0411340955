// A real PostgreSQL for the system tests; the tests of packages use the same export.

export { startPostgres, type TestPostgres } from "@formation-mcp/operations/testing/postgres-server";
