// @module-tag postgres

// The errors when a connection to PostgreSQL fails: each cause has its own, and none contains the password.

import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import type { FormationError } from "@formation-mcp/contract";
import { openPostgresStore } from "@formation-mcp/operations/postgres";
import { afterEach, expect, it } from "vitest";

const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

/** A server that answers with these packets, one for each packet that it receives. */
async function answering(...answers: Buffer[]): Promise<number> {
  const server = createServer((socket) => {
    const left = [...answers];
    socket.on("error", () => {}).on("data", () => socket.write(left.shift() ?? ""));
  });
  closing.push(() => server.close());
  await once(server.listen(0, "127.0.0.1"), "listening");
  return (server.address() as AddressInfo).port;
}

/** A message of PostgreSQL's protocol, version 3. */
function packet(type: string, body: Buffer): Buffer {
  const head = Buffer.alloc(5);
  head.write(type);
  head.writeInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
}

async function refusal(place: string, user = "formation_server:hunter2"): Promise<FormationError> {
  const url = `postgres://${user}@${place}`;
  return openPostgresStore({ url, migrate: false }).then(
    () => expect.unreachable(),
    (error) => error,
  );
}

async function tells(refused: Promise<FormationError>, message: RegExp, remedy: RegExp, cause: RegExp) {
  const error = await refused;
  expect(error).toMatchObject({ code: "unavailable", message: expect.stringMatching(message) });
  expect(error.details.remedy).toMatch(remedy);
  expect(String((error.cause as Error).message)).toMatch(cause);
  expect(JSON.stringify([error.message, error.details, (error.cause as Error).message])).not.toMatch(
    /hunter2/,
  );
}

it("nobody listens", () =>
  tells(refusal("127.0.0.1:9/f"), /nobody listens/, /host and port/, /127\.0\.0\.1:9/));

it("the host is none", () =>
  tells(refusal("nowhere.invalid/f"), /no address/, /Correct the host/, /nowhere\.invalid/));

it("TLS is asked for, and not offered", async () => {
  const port = await answering(Buffer.from("N"));
  await tells(refusal(`127.0.0.1:${port}/f?sslmode=verify-full`), /offers no TLS/, /ssl = on/, /SSL/);
});

it("a password is asked for, and there is none", async () => {
  const sasl = (step: number, text: string) =>
    packet("R", Buffer.concat([Buffer.from([0, 0, 0, step]), Buffer.from(text)]));
  const port = await answering(sasl(10, "SCRAM-SHA-256\0\0"), sasl(11, "r=x,s=eA==,i=4096"));
  await tells(
    refusal(`127.0.0.1:${port}/f`, "formation_server"),
    /there is none/,
    /password file/,
    /password/,
  );
});

it.each([
  ["28000", /pg_hba\.conf/, /verify-full/],
  ["28P01", /role or its password/, /password file/],
])("the server refuses with %s", async (state, message, remedy) => {
  const said = "no pg_hba.conf entry for host";
  const port = await answering(packet("E", Buffer.from(`SFATAL\0VFATAL\0C${state}\0M${said}\0\0`)));
  await tells(refusal(`127.0.0.1:${port}/f`), message, remedy, /no pg_hba\.conf entry/);
});

it.each([
  ["42704", "invalid", /roles\.sql.*migrate --worker-role/],
  ["42501", "forbidden", /formation-mcp-http migrate --worker-role/],
])("what lacks with %s is named as an operator knows it", async (state, code, remedy) => {
  const port = await answering(packet("E", Buffer.from(`SERROR\0VERROR\0C${state}\0Mno\0\0`)));
  const error = await refusal(`127.0.0.1:${port}/f`);
  expect(error).toMatchObject({ code, details: { remedy: expect.stringMatching(remedy) } });
});
