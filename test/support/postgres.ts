// A real PostgreSQL for the tests of the whole house; a package's own tests take it from the same door.

export { startPostgres, type TestPostgres } from "@formation-mcp/operations/testing/postgres-server";
