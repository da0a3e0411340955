// The sessions of this user with servers, in one file that only the user can read. Programs that share it
// renew a session one at a time, because a refresh token that is used twice ends the session.

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
  /** The server that commands use when none is named. */
  current: string | null;
  servers: Record<string, Session>;
}

const LOCK_TIMEOUT_MS = 20_000;
/** A lock older than this belongs to a killed process: renewing takes a second. */
const STALE_LOCK_MS = 60_000;
const POLL_MS = 50;

export interface Credentials {
  /** The server of the last sign-in. */
  current(): string | null;
  /** The storage of the session with a server. */
  of(url: string): SessionStorage & { load(): Session | null };
}

/** The sessions in a file, which the first sign-in creates. */
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
      withLock: (work) => withLock(`${path}.lock`, work),
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

/** Writes the file atomically; other users can never read it. */
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

async function withLock<T>(path: string, work: () => Promise<T>): Promise<T> {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const until = performance.now() + LOCK_TIMEOUT_MS;
  while (!tryCreateLock(path)) {
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

function tryCreateLock(path: string): boolean {
  try {
    closeSync(openSync(path, "wx", 0o600));
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    const held = statSync(path, { throwIfNoEntry: false });
    if (held && Date.now() - held.mtimeMs > STALE_LOCK_MS) rmSync(path, { force: true });
    return false;
  }
}
