// Which servers this user is signed in to, in one file that nobody else can read. Programs that share it renew a session
// one at a time: a refresh token that is used twice ends the session.

import { randomBytes } from "node:crypto";
import {
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import type { Session, SessionStorage } from "@formation-mcp/client";
import { FormationError } from "@formation-mcp/contract";

interface Stored {
  v: 1;
  /** The server that commands mean when none is named. */
  current: string | null;
  servers: Record<string, Session>;
}

const LOCK_MS = 20_000;
/** Whoever holds the lock longer than this was killed: renewing takes a second. */
const STALE_MS = 60_000;
const POLL_MS = 50;

export interface Credentials {
  /** The server that was signed in to last. */
  current(): string | null;
  /** Where the session with a server is kept. */
  of(url: string): SessionStorage & { load(): Session | null };
}

/** The sessions in a file; it is made at the first sign-in. */
export function openCredentials(path: string): Credentials {
  return {
    current: () => read(path).current,
    of: (url) => ({
      load: () => read(path).servers[url] ?? null,
      save(session) {
        const { current, servers } = read(path);
        const { [url]: _, ...others } = servers;
        const left = Object.keys(others)[0] ?? null;
        write(path, {
          v: 1,
          current: session ? url : current === url ? left : current,
          servers: session ? { ...others, [url]: session } : others,
        });
      },
      withLock: (work) => locked(`${path}.lock`, work),
    }),
  };
}

function read(path: string): Stored {
  let text: string;
  try {
    const { mode } = statSync(path);
    if (process.platform !== "win32" && (mode & 0o077) !== 0) {
      throw new FormationError("forbidden", `${path} holds sessions and can be read by others.`, {
        remedy: `Run: chmod 600 ${path}`,
      });
    }
    text = readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return { v: 1, current: null, servers: {} };
    throw error;
  }
  try {
    const { current, servers } = JSON.parse(text) as Stored;
    return { v: 1, current, servers: { ...servers } };
  } catch (cause) {
    throw new FormationError("invalid", `${path} is damaged.`, {
      cause,
      remedy: "Delete it and sign in again: formation-mcp login --server URL",
    });
  }
}

/** Whole or not at all, and never readable by others, not even for a moment. */
function write(path: string, stored: Stored): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const temporary = `${path}.${process.pid}-${randomBytes(6).toString("hex")}.tmp`;
  try {
    writeFileSync(temporary, `${JSON.stringify(stored, null, 2)}\n`, { mode: 0o600, flag: "wx" });
    renameSync(temporary, path);
  } finally {
    rmSync(temporary, { force: true });
  }
}

async function locked<T>(path: string, work: () => Promise<T>): Promise<T> {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const until = performance.now() + LOCK_MS;
  while (!taken(path)) {
    if (performance.now() > until) {
      throw new FormationError("unavailable", `${path} is held by another program.`, {
        remedy: "Try again; if no other formation-mcp runs, delete that file.",
      });
    }
    await pause(POLL_MS);
  }
  try {
    return await work();
  } finally {
    rmSync(path, { force: true });
  }
}

function taken(path: string): boolean {
  try {
    closeSync(openSync(path, "wx", 0o600));
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    const held = statSync(path, { throwIfNoEntry: false });
    if (held && Date.now() - held.mtimeMs > STALE_MS) rmSync(path, { force: true });
    return false;
  }
}
