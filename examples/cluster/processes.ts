// Programs of a cluster as child processes: their output is kept for error messages, waiting for them prints
// a line, and they are ended by process id, the last first.

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { setTimeout as delay } from "node:timers/promises";

export type Say = (text: string) => void;

/** An unprivileged account of this machine that a server runs as if this process is root. */
export interface Account {
  uid: number;
  gid: number;
}

export interface Program {
  name: string;
  pid: number;
  /** Its output so far. */
  output(): string;
  ended(): boolean;
  signal(signal: NodeJS.Signals): void;
  /** SIGTERM, then SIGKILL after a while; resolves with the exit code after the process has ended. */
  stop(graceMs?: number): Promise<number | null>;
  /** SIGKILL. */
  kill(): Promise<void>;
}

export interface Command {
  file: string;
  args: string[];
  env: Record<string, string>;
  account?: Account | undefined;
  cwd?: string;
}

const KEPT = 64 * 1024;

export function start(name: string, { file, args, env, account, cwd = "/" }: Command): Program {
  const child = spawn(file, args, { env, cwd, stdio: ["ignore", "pipe", "pipe"], ...account });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      output = (output + text).slice(-KEPT);
    });
  }
  child.once("error", (error) => {
    output += error.message;
  });
  const ended = () => child.pid === undefined || child.exitCode !== null || child.signalCode !== null;
  return {
    name,
    pid: child.pid ?? 0,
    output: () => output,
    ended,
    signal: (signal) => void child.kill(signal),
    stop: (graceMs = 30_000) => end(child, ended, "SIGTERM", graceMs),
    async kill() {
      await end(child, ended, "SIGKILL", 0);
    },
  };
}

async function end(
  child: ChildProcess,
  ended: () => boolean,
  signal: NodeJS.Signals,
  graceMs: number,
): Promise<number | null> {
  if (ended()) return child.exitCode;
  const gone = once(child, "exit");
  child.kill(signal);
  // A stopped process (SIGSTOP) handles no other signal.
  child.kill("SIGCONT");
  const killer = setTimeout(() => child.kill("SIGKILL"), graceMs);
  await gone;
  clearTimeout(killer);
  return child.exitCode;
}

/**
 * Waits until a condition holds, and prints every other second that it still waits.
 * @throws with the output of the program if it ended meanwhile, or after `timeoutMs`.
 */
export async function until<T>(
  look: () => T | Promise<T>,
  {
    what,
    say,
    program,
    timeoutMs = 60_000,
  }: { what: string; say: Say; program?: Program; timeoutMs?: number },
): Promise<NonNullable<T>> {
  const began = performance.now();
  let told = began;
  for (;;) {
    const found = await look();
    if (found) return found;
    const now = performance.now();
    if (program?.ended()) throw new Error(`${program.name} ended:\n${program.output()}`);
    if (now - began > timeoutMs)
      throw new Error(`Waited ${Math.round(timeoutMs / 1000)} s for ${what}.\n${program?.output() ?? ""}`);
    if (now - told > 2000) {
      told = now;
      say(`         waiting for ${what}`);
    }
    await delay(50);
  }
}

/** Runs a program to its end. @throws with its output if its exit code is not 0. */
export async function run(name: string, command: Command, say: Say): Promise<string> {
  const program = start(name, command);
  await until(() => program.ended(), { what: name, say, timeoutMs: 180_000 });
  const code = await program.stop();
  if (code !== 0) throw new Error(`${name} ended with ${code}:\n${program.output()}`);
  return program.output();
}

/** A free port of loopback, or of another address of this machine. */
export async function freePort(host = "127.0.0.1"): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, host, resolve);
  });
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("The system gave no port.");
  return address.port;
}

export function accepts(port: number, host = "127.0.0.1"): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, host);
    socket.once("connect", () => socket.destroy(resolve(true) as undefined));
    socket.once("error", () => resolve(false));
  });
}

/**
 * The account that a server runs as: the one of its package if this process is root, else that of this
 * process.
 */
export function accountOf(...names: string[]): Account | undefined {
  if (process.getuid?.() !== 0) return undefined;
  for (const name of [...names, "nobody"]) {
    try {
      const id = (what: string) => Number(execFileSync("id", [what, name], { encoding: "utf8" }).trim());
      return { uid: id("-u"), gid: id("-g") };
    } catch {
      // There is no account of that name.
    }
  }
  throw new Error("There is no account without rights on this machine, not even nobody.");
}
