// @module-tag nats

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { jsonLogger, terminalError } from "@formation-mcp/assembly";
import {
  auditVerdict,
  migrate,
  newBootstrapToken,
  readHttpConfiguration,
} from "@formation-mcp/assembly/http";
import { FormationError, silentLogger } from "@formation-mcp/contract";
import { startNats } from "@formation-mcp/os/testing/nats-server";
import { afterAll, expect, test } from "vitest";

const dir = mkdtempSync(join(tmpdir(), "formation-reaching-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

test("a database that does not answer is named, with what the system said, and without its password", async () => {
  writeFileSync(join(dir, "master"), "x".repeat(32), { mode: 0o600 });
  const configuration = readHttpConfiguration(
    { stateDir: join(dir, "state") },
    {
      FORMATION_DATABASE_URL: "postgres://formation_server:hunter2@127.0.0.1:9/formation",
      FORMATION_MASTER_KEY_FILE: join(dir, "master"),
    },
  );
  for (const act of [migrate, auditVerdict]) {
    const { text, code } = terminalError(
      "program",
      await act(configuration, silentLogger).catch((error: unknown) => error),
    );
    expect(text).toMatch(
      /^program: .*nobody listens there \(PostgreSQL at 127\.0\.0\.1:9, database formation\)\.\n {2}connect ECONNREFUSED 127\.0\.0\.1:9\n {2}Start it/,
    );
    expect(text).not.toContain("hunter2");
    expect(code).toBe(1);
  }
});

test("one NATS that is to keep three copies is told to be too few: no waiting helps", async () => {
  const nats = await startNats();
  try {
    const settings = { FORMATION_NATS_URL: nats.url, FORMATION_NATS_REPLICAS: "3" };
    const configuration = readHttpConfiguration({ stateDir: join(dir, "copies") }, settings);
    const { text } = terminalError(
      "p",
      await newBootstrapToken(configuration, "http://127.0.0.1:3010", silentLogger).catch(
        (error: unknown) => error,
      ),
    );
    expect(text).toContain(nats.url);
    expect(text).toMatch(/FORMATION_NATS_REPLICAS=3 needs 3 servers/);
    expect(text).not.toMatch(/by itself/);
  } finally {
    await nats.stop();
  }
});

test("the log says why something is away; what was to be written stays out of it", () => {
  const lines: string[] = [];
  const logger = jsonLogger("info", (line) => lines.push(line));
  const cause = new Error("connect ECONNREFUSED 10.0.0.5:5432");
  logger.log("warn", "away", { error: new FormationError("unavailable", "It is away.", { cause }) });
  logger.log("warn", "broken", { error: new FormationError("internal", "It broke.", { cause }) });
  expect(lines[0]).toContain("It is away. (connect ECONNREFUSED 10.0.0.5:5432)");
  expect(lines[1]).not.toContain("10.0.0.5");
});

test("each address of a host says why, once, and a wrong command line has a code of its own", () => {
  const cause = new AggregateError([
    new Error("::1 refused"),
    new Error("::1 refused"),
    new Error("v4 refused"),
  ]);
  expect(terminalError("p", new FormationError("unavailable", "Away.", { cause })).text).toBe(
    "p: Away.\n  ::1 refused; v4 refused\n",
  );
  const usage = Object.assign(new Error("Unknown option '--bogus'. To specify a positional …"), {
    code: "ERR_PARSE_ARGS_UNKNOWN_OPTION",
  });
  expect(terminalError("p", usage)).toEqual({
    text: "p: Unknown option '--bogus'.\n  See: p --help\n",
    code: 2,
  });
});
