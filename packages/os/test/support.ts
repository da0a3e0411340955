// Directories and child processes of a test, gone when it ends.

import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { onTestFinished } from "vitest";

/** An empty directory that the test's end removes. */
export function scratch(): string {
  const directory = mkdtempSync(join(tmpdir(), "formation-os-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** The programs in `children`, each named so that tools see that it is used. */
const CHILDREN = {
  writer: new URL("./children/writer.ts", import.meta.url),
  opener: new URL("./children/opener.ts", import.meta.url),
  holder: new URL("./children/holder.ts", import.meta.url),
};

/** Starts one of the programs in `children`; the test's end kills it. Resolves with its first line. */
export async function child(
  name: keyof typeof CHILDREN,
  ...args: string[]
): Promise<{ process: ChildProcess; said: string }> {
  const started = spawn(
    process.execPath,
    ["--conditions=formation-source", fileURLToPath(CHILDREN[name]), ...args],
    {
      stdio: ["ignore", "pipe", "inherit"],
    },
  );
  onTestFinished(() => {
    started.kill("SIGKILL");
  });
  const said = await new Promise<string>((done, failed) => {
    started.stdout.once("data", (chunk: Uint8Array) => done(String(chunk).trim()));
    started.once("error", failed);
    started.once("exit", (code) => failed(new Error(`${name} ended with ${code}`)));
  });
  return { process: started, said };
}

/** Resolves with the exit code once a child ended. */
export async function ended(started: ChildProcess): Promise<number | null> {
  if (started.exitCode !== null || started.signalCode !== null) return started.exitCode;
  return await new Promise((done) => started.once("exit", (code) => done(code)));
}
