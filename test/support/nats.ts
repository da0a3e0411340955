// A real nats-server for the tests of the whole house; a package's own tests take it from the same door.

export { type NatsServer, startNats } from "@formation-mcp/os/testing/nats-server";
