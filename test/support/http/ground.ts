// The fixture of hostile tests: a real server with an admin and users, the texts that no refusal may reveal,
// and the checks after the attack.

import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { expect } from "vitest";
import { leftovers } from "../leftovers.ts";
import { httpCommand, ROOT } from "../programs.ts";
import { temporaryState } from "../server.ts";
import { keptBlobs } from "../shared.ts";
import { becomeAdmin, newUser, type Person, rest } from "./people.ts";
import { type HttpServer, servedEnvironment, startHttp } from "./server.ts";
import { ask, type Reply } from "./wire.ts";

export interface Ground {
  server: HttpServer;
  url: string;
  admin: Person;
  user: Person;
  /** Texts that no reply and no log line may contain. */
  secrets: Set<string>;
  /** Checks that a reply refuses with exactly this status and reveals nothing. */
  refused(reply: Reply | null, status: number | readonly number[]): Reply;
  /** Checks the server after the attack, ends it, and removes everything. */
  close(): Promise<void>;
}

/** The highest memory of a new server at the end, in MiB; an idle one uses less than half of it. */
const MOST_MIB = 400;

export async function openGround(env: Record<string, string> = {}): Promise<Ground> {
  const state = temporaryState();
  const before = leftovers(state.dir);
  const server = await startHttp({ stateDir: state.dir, env });
  const { url } = server;
  const bootstrap = await server.bootstrapToken();
  const admin = await becomeAdmin(url, bootstrap, "secp256k1");
  const user = await newUser(url, admin);
  const secrets = new Set([bootstrap]);
  for (const person of [admin, user]) {
    for (const secret of [person.token, person.refresh, person.key.revealPrivate()]) secrets.add(secret);
  }
  return {
    server,
    url,
    admin,
    user,
    secrets,
    refused(reply, status) {
      const expected = typeof status === "number" ? [status] : status;
      if (!reply) throw new Error("The server ended the connection without a word.");
      expect(expected, `${reply.head}\n\n${reply.body.slice(0, 2000)}`).toContain(reply.status);
      keepsToItself(reply, secrets, state.dir);
      return reply;
    },
    async close() {
      try {
        await afterTheStorm(server, user);
        expect(await server.stop(), server.output().slice(-2000)).toBe(0);
        keepsItsLog(server.output(), secrets);
        expect((await keptBlobs(state.dir)).begun).toEqual([]);
        expect(leftovers(state.dir)).toEqual(before);
      } finally {
        await server.kill();
        await state.close();
      }
    },
  };
}

const STACK =
  /\n\s+at |\bat [\w.<>]+ \(|\.m?[jt]s:\d+|node:internal|TypeError|RangeError|ReferenceError|SyntaxError/;
const SQL = /sqlite|\b(?:select|insert into|update|delete from)\b.{1,80}\b(?:from|values|set|where)\b/i;

/**
 * A refusal contains no stack, no path or file of this machine, no SQL, no secret, and no injected header.
 */
function keepsToItself(reply: Reply, secrets: ReadonlySet<string>, stateDir: string): void {
  const all = `${reply.head}\n${reply.body}`;
  expect(all).not.toMatch(STACK);
  expect(all).not.toMatch(SQL);
  for (const path of [stateDir, ROOT, "node_modules", "root:x:0"]) expect(all).not.toContain(path);
  for (const secret of secrets) expect(all).not.toContain(secret);
  expect(Buffer.byteLength(reply.body)).toBeLessThan(20_000);
}

/** A call answers as before, and the memory did not grow. */
async function afterTheStorm(server: HttpServer, user: Person): Promise<void> {
  expect((await ask(server.url, { path: "/health/live" })).status).toBe(200);
  expect((await ask(server.url, { path: "/health/ready" })).status).toBe(200);
  const reply = await rest(server.url, "POST", "/api/tools/vm_list", {
    token: user.token,
    body: { parameters: {} },
  });
  expect(reply.status, reply.body).toBe(200);
  expect(server.rss()).toBeLessThan(MOST_MIB);
}

/**
 * After the start-up text every line is one JSON object with a level, and none contains a secret or a control
 * character.
 */
function keepsItsLog(output: string, secrets: ReadonlySet<string>): void {
  const lines = output.split("\n").filter((line) => line.startsWith("{"));
  for (const line of lines) expect(JSON.parse(line)).toHaveProperty("level");
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
  expect(output).not.toMatch(/[\u0000-\u0008\u000b-\u001f\u007f\u0080-\u009f\u2028\u2029\u202a-\u202e]/);
  const log = lines.join("\n");
  expect(log).not.toMatch(/\n\s+at /);
  for (const secret of secrets) expect(log).not.toContain(secret);
}

/** Runs a subcommand of the server program, such as `audit verify`. */
export async function httpCommandLine(
  stateDir: string,
  words: string[],
): Promise<{ code: number; stdout: string; stderr: string }> {
  try {
    const done = await promisify(execFile)(process.execPath, httpCommand(words), {
      env: await servedEnvironment(stateDir),
      timeout: 60_000,
    });
    return { code: 0, ...done };
  } catch (error) {
    const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string };
    return { code, stdout, stderr };
  }
}
