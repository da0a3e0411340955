// @module-tag nats

import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Logger, silentLogger } from "@formation-mcp/contract";
import { waitFor } from "@formation-mcp/os";
import {
  type ConnectNatsOptions,
  connectNats,
  createNatsKey,
  type NatsConnection,
} from "@formation-mcp/os/nats";
import { type NatsServer, startNats } from "@formation-mcp/os/testing/nats-server";
import { createAccount, createOperator, createUser, type KeyPair } from "@nats-io/nkeys";
import { afterEach, beforeEach, describe, expect, it } from "vitest";

let directory: string;
let servers: NatsServer[];
let connections: NatsConnection[];

async function start(config = ""): Promise<NatsServer> {
  const server = await startNats({ config });
  servers.push(server);
  return server;
}

async function open(server: NatsServer, options: Partial<ConnectNatsOptions> = {}): Promise<NatsConnection> {
  const connection = await connectNats({
    servers: [server.url],
    name: "test",
    reconnectMs: 20,
    timeoutMs: 5_000,
    ...options,
  });
  connections.push(connection);
  return connection;
}

/** What an issuer says about a subject (https://docs.nats.io, "JWT"). */
function token(issuer: KeyPair, subject: KeyPair, claims: Record<string, unknown>): string {
  const encode = (part: unknown) => Buffer.from(JSON.stringify(part)).toString("base64url");
  const iat = Math.floor(Date.now() / 1000);
  const body = { jti: "x", iat, iss: issuer.getPublicKey(), sub: subject.getPublicKey(), name: "test" };
  const text = `${encode({ typ: "JWT", alg: "ed25519-nkey" })}.${encode({ ...body, nats: { ...claims, version: 2 } })}`;
  return `${text}.${Buffer.from(issuer.sign(Buffer.from(text))).toString("base64url")}`;
}

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "nats-client-"));
  servers = [];
  connections = [];
});
afterEach(async () => {
  await Promise.all(connections.map((connection) => connection.close()));
  await Promise.all(servers.map((server) => server.stop()));
  rmSync(directory, { recursive: true });
});

describe("a connection to NATS", () => {
  it("comes back by itself, however often the server is killed, and says so", async () => {
    const said: string[] = [];
    const logger: Logger = { log: (_, message) => said.push(message) };
    const server = await start();
    const connection = await open(server, { logger });
    const got: string[] = [];
    connection.subscribe("a", {
      callback: (_, message) => {
        got.push(message.string());
      },
    });
    for (const round of ["1", "2"]) {
      await server.kill();
      await server.restart();
      await waitFor(
        () => {
          connection.publish("a", round);
          return got.includes(round);
        },
        { what: "a message after the restart", timeoutMs: 10_000 },
      );
    }
    expect(said.filter((line) => line === "NATS is back.")).toHaveLength(2);
  });

  it("notices a server that is there and says nothing", async () => {
    const server = await start();
    const said: string[] = [];
    await open(server, { pingMs: 100, logger: { log: (_, message) => said.push(message) } });
    server.pause();
    await waitFor(() => said.some((line) => line.startsWith("NATS is gone")), {
      what: "the silence to be noticed",
      timeoutMs: 5_000,
    });
    server.resume();
    await waitFor(() => said.includes("NATS is back."), { what: "the server", timeoutMs: 10_000 });
  });

  it("is unavailable, in bounded time, where nothing listens", async () => {
    const server = await start();
    await server.kill();
    await expect(open(server, { timeoutMs: 300 })).rejects.toMatchObject({ code: "unavailable" });
  });

  it("takes only addresses that carry no secret", async () => {
    for (const address of ["nats://me:secret@host:4222", "http://host", "", "nats://host:4222/x"]) {
      const refused = connectNats({ servers: [address], name: "test", logger: silentLogger });
      await expect(refused).rejects.toMatchObject({
        code: "invalid",
        message: expect.not.stringContaining("secret"),
      });
    }
  });

  it("never speaks in clear to a tls:// server", async () => {
    const server = await start();
    const address = server.url.replace("nats://", "tls://");
    await expect(open(server, { servers: [address], timeoutMs: 300 })).rejects.toMatchObject({
      code: "unavailable",
    });
  });
});

describe("credentials for NATS", () => {
  const withKey = (key: string) => `authorization { users: [ { nkey: ${key} } ] }`;

  it("are an nkey, whose seed only its owner may read", async () => {
    const path = join(directory, "seed");
    const server = await start(withKey(createNatsKey(path)));
    expect(statSync(path).mode & 0o777).toBe(0o600);
    const connection = await open(server, { credentials: { kind: "nkey", path } });
    await connection.flush();
  });

  it("are a password", async () => {
    const server = await start("authorization { user: me, password: right }");
    await open(server, { credentials: { kind: "password", user: "me", password: "right" } });
    const wrong = open(server, { credentials: { kind: "password", user: "me", password: "wrong" } });
    await expect(wrong).rejects.toMatchObject({ code: "unauthenticated" });
  });

  it("are a creds file, as an operator's tools make it", async () => {
    const [operator, account, system, user] = [
      createOperator(),
      createAccount(),
      createAccount(),
      createUser(),
    ];
    const none = {
      subs: -1,
      data: -1,
      payload: -1,
      imports: -1,
      exports: -1,
      conn: -1,
      leaf: -1,
      wildcards: true,
    };
    const operatorToken = token(operator, operator, {
      type: "operator",
      system_account: system.getPublicKey(),
    });
    const tokens = [account, system].map(
      (each) => `${each.getPublicKey()}: ${token(operator, each, { type: "account", limits: none })}`,
    );
    const server = await start(
      `operator: ${operatorToken}\nresolver: MEMORY\nresolver_preload: { ${tokens.join("\n")} }`,
    );
    const path = join(directory, "user.creds");
    const allowed = { pub: {}, sub: {}, subs: -1, data: -1, payload: -1 };
    const seed = new TextDecoder().decode(user.getSeed());
    const part = (name: string, text: string) =>
      `-----BEGIN ${name}-----\n${text}\n------END ${name}------\n\n`;
    const jwt = token(account, user, { type: "user", ...allowed });
    writeFileSync(path, part("NATS USER JWT", jwt) + part("USER NKEY SEED", seed));
    const connection = await open(server, { credentials: { kind: "creds", path } });
    await connection.flush();
    writeFileSync(
      path,
      part("NATS USER JWT", token(createAccount(), user, { type: "user" })) + part("USER NKEY SEED", seed),
    );
    await expect(open(server, { credentials: { kind: "creds", path } })).rejects.toMatchObject({
      code: "unauthenticated",
    });
  });

  it("are refused at once if they are wrong or missing", async () => {
    const [right, wrong] = [join(directory, "right"), join(directory, "wrong")];
    const server = await start(withKey(createNatsKey(right)));
    createNatsKey(wrong);
    await expect(open(server, { credentials: { kind: "nkey", path: wrong } })).rejects.toMatchObject({
      code: "unauthenticated",
    });
    await expect(open(server)).rejects.toMatchObject({ code: "unauthenticated" });
  });

  it("never appear in an error, not even when they cannot be read", async () => {
    const path = join(directory, "seed");
    writeFileSync(path, "SUSECRETSECRET");
    const server = await start();
    for (const kind of ["nkey", "creds"] as const) {
      const error = await open(server, { credentials: { kind, path } }).catch((reason: unknown) => reason);
      expect(error).toMatchObject({ code: "invalid" });
      expect((error as Error).cause).toBeUndefined();
      expect(JSON.stringify(error)).not.toContain("SUSECRET");
    }
  });

  it("are read again at each connection", async () => {
    const [path, next] = [join(directory, "seed"), join(directory, "next")];
    const first = createNatsKey(path);
    const second = createNatsKey(next);
    const mute = `{ nkey: ${first}, permissions: { publish: { deny: ">" } } }`;
    const server = await start(`authorization { users: [ ${mute}, { nkey: ${second} } ] }`);
    const connection = await open(server, { credentials: { kind: "nkey", path } });
    let heard = 0;
    connection.subscribe("a", {
      callback: () => {
        heard++;
      },
    });
    connection.publish("a");
    await connection.flush();
    expect(heard).toBe(0);
    writeFileSync(path, readFileSync(next));
    await server.restart();
    await waitFor(
      () => {
        connection.publish("a");
        return heard > 0;
      },
      { what: "the new key to be used", timeoutMs: 10_000 },
    );
  });
});
