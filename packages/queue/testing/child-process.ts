// Starts another process for a test, which uses a queue on command and reports what happens.

import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { ChangeEvent } from "@formation-mcp/contract";
import { waitFor } from "@formation-mcp/os";
import type { ChildCommand, ChildDriver, ChildReport } from "./child-main.ts";

const CHILD_MAIN = join(import.meta.dirname, "child-main.ts");

/** The time limit of one case. */
export const TEST_TIMEOUT_MS = 20_000;

/** Waits until the condition holds; throws after 15 s. */
export async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  await waitFor(condition, { what, timeoutMs: TEST_TIMEOUT_MS - 5_000, everyMs: 10 });
}

/** Another process that uses the same broker. */
export class Child {
  readonly #process: ChildProcess;
  readonly #reports: ChildReport[] = [];

  constructor(driver: ChildDriver) {
    const args = ["--conditions=formation-source", CHILD_MAIN, JSON.stringify(driver)];
    this.#process = spawn(process.execPath, args, { stdio: ["pipe", "pipe", "inherit"] });
    this.#process.stdin?.on("error", () => {});
    if (this.#process.stdout) {
      createInterface({ input: this.#process.stdout }).on("line", (line) => {
        this.#reports.push(JSON.parse(line) as ChildReport);
      });
    }
  }

  has(wanted: ChildReport): boolean {
    return this.#reports.some((report) => JSON.stringify(report) === JSON.stringify(wanted));
  }

  messages(): string[] {
    return this.#reports.flatMap((report) => (report.is === "message" ? [report.id] : []));
  }

  events(): ChangeEvent[] {
    return this.#reports.flatMap((report) => (report.is === "event" ? [report.event] : []));
  }

  async tell(command: ChildCommand): Promise<void> {
    const done = () => this.#reports.filter((one) => one.is === "done" && one.command === command.do).length;
    const before = done();
    this.#process.stdin?.write(`${JSON.stringify(command)}\n`);
    await until(`the child to ${command.do}`, () => done() > before);
  }

  kill(): void {
    this.#process.kill("SIGKILL");
  }

  async end(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const gone = new Promise((resolve) => this.#process.once("exit", resolve));
    this.kill();
    await gone;
  }
}
