// A real nats-server for the system tests; the tests of packages use the same export.

export { type NatsServer, startNats } from "@formation-mcp/os/testing/nats-server";
