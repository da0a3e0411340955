// What the cases of the builder's suite share: a state directory, a context, builds whose lines are recorded,
// and the machine's processes.

import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { Builder, BuildLimits, BuildRequest } from "@formation-mcp/builder";
import { FormationError, type Image } from "@formation-mcp/contract";
import type { Formfile } from "@formation-mcp/formfile";
import { waitFor } from "@formation-mcp/os";

/** What a driver's own test passes to the suite. */
export interface BuilderHarness {
  open(stateDir: string): Promise<Builder>;
  /** The URL of a module that exports the same `open`, for another process. */
  opener: string;
  /** A file's text on a disk of the driver, or null if it is missing. */
  read(disk: string, path: string): Promise<string | null>;
  /**
   * The mounts, cgroups, processes and temporary files that builds left, below a state directory and in the
   * system.
   */
  leftovers(stateDir: string): Promise<string[]>;
  /** The kernel limits that the driver sets. The real driver sets all. */
  bounds: readonly ("pids" | "memory")[];
}

export interface Built {
  image: Image;
  lines: string[];
  steps: string[];
}

interface BuildOptions extends Partial<BuildLimits> {
  owner?: string;
  noCache?: boolean;
}

const LIMITS: BuildLimits = {
  memory_mb: 256,
  vcpus: 1,
  pids: 100,
  disk_bytes: 200_000_000,
  timeout_ms: 60_000,
};

/** One open driver for all cases, closed at the end. */
export class Fixture {
  readonly #driver: BuilderHarness;
  readonly #root = mkdtempSync(join(tmpdir(), "fb-"));
  #builder: Builder | null = null;
  #built = 0;

  constructor(driver: BuilderHarness) {
    this.#driver = driver;
  }

  get builder(): Builder {
    if (!this.#builder) throw new Error("not open");
    return this.#builder;
  }

  async open(): Promise<void> {
    this.#builder = await this.#driver.open(this.directory("s"));
    await this.#builder.recover();
  }

  async close(): Promise<void> {
    await this.#builder?.recover();
    rmSync(this.#root, { recursive: true, force: true });
  }

  directory(name: string): string {
    const path = join(this.#root, name);
    mkdirSync(path, { recursive: true });
    return path;
  }

  /** Digits that no other call returns. */
  unique(): string {
    return `9${BigInt(`0x${randomBytes(6).toString("hex")}`)}`;
  }

  /** Makes the context hold exactly these files. */
  context(files: Record<string, string>, modes: Record<string, number> = {}): void {
    rmSync(join(this.#root, "ctx"), { recursive: true, force: true });
    for (const [name, content] of Object.entries(files)) {
      const path = join(this.#root, "ctx", name);
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, content);
      chmodSync(path, modes[name] ?? 0o600);
    }
  }

  link(name: string, target: string): void {
    symlinkSync(target, join(this.directory("ctx"), name));
  }

  async build(formfile: Partial<Formfile>, options: BuildOptions = {}): Promise<Built> {
    return await this.buildOn(this.builder, formfile, options);
  }

  async buildOn(builder: Builder, formfile: Partial<Formfile>, options: BuildOptions = {}): Promise<Built> {
    const lines: string[] = [];
    const steps: string[] = [];
    const image = await builder.build(this.request(formfile, options), {
      signal: new AbortController().signal,
      onLine: (_, line) => lines.push(line),
      onStep: (step) => steps.push(step),
    });
    return { image, lines, steps };
  }

  /** Builds, and returns the error with which the build fails. */
  async fails(formfile: Partial<Formfile>, options: BuildOptions = {}): Promise<FormationError> {
    return await this.start(formfile, options, new AbortController()).error;
  }

  /** Starts a build that is expected to fail. */
  start(formfile: Partial<Formfile>, options: BuildOptions, stop: AbortController) {
    const lines: string[] = [];
    const building = this.builder.build(this.request(formfile, options), {
      signal: stop.signal,
      onLine: (_, line) => lines.push(line),
      onStep: () => {},
    });
    const error = building.then(
      () => {
        throw new Error("The build succeeded.");
      },
      (thrown: unknown) => {
        if (thrown instanceof FormationError) return thrown;
        throw thrown;
      },
    );
    error.catch(() => {});
    const saw = (line: string) =>
      waitFor(() => lines.includes(line), { timeoutMs: 30_000, everyMs: 10, what: `the line ${line}` });
    return { error, lines, saw };
  }

  /** Starts another process that opens the driver and builds. */
  child(stateDir: string, formfile: Partial<Formfile>) {
    const script = `const { open } = await import(process.argv[1]);
      const builder = await open(process.argv[2]);
      await builder.recover();
      await builder.build(JSON.parse(process.argv[3]), { signal: new AbortController().signal, onStep() {},
        onLine(_, line) { console.log(line); } });`;
    const child = spawn(
      process.execPath,
      [
        ...[
          "--conditions=formation-source",
          "--input-type=module",
          "-e",
          script,
          this.#driver.opener,
          stateDir,
        ],
        JSON.stringify(this.request(formfile, {})),
      ],
      { stdio: ["ignore", "pipe", "inherit"] },
    );
    let text = "";
    child.stdout.on("data", (chunk: Buffer) => {
      text += chunk.toString();
    });
    const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
    const saw = (line: string) =>
      waitFor(() => text.split("\n").includes(line) || child.exitCode !== null, {
        timeoutMs: 30_000,
        what: `the child's line ${line}`,
      });
    return { saw, ended, kill: () => child.kill("SIGKILL") };
  }

  async read(image: Image, path: string, builder = this.builder): Promise<string | null> {
    return await this.#driver.read(await builder.disk(image.digest, 1, AbortSignal.timeout(60_000)), path);
  }

  /** Another node: a driver with a state directory of its own. */
  async another(name: string): Promise<{ builder: Builder; leftovers: () => Promise<string[]> }> {
    const stateDir = this.directory(name);
    const builder = await this.#driver.open(stateDir);
    return { builder, leftovers: () => this.#driver.leftovers(stateDir) };
  }

  async leftovers(): Promise<string[]> {
    return await this.#driver.leftovers(join(this.#root, "s"));
  }

  request(
    formfile: Partial<Formfile>,
    { noCache = false, owner = "one", ...limits }: BuildOptions,
  ): BuildRequest {
    this.#built += 1;
    return {
      id: `bld_test.${this.#built}`,
      owner,
      formfile: {
        from: "busybox",
        name: "test",
        run: [],
        include: [],
        env: {},
        expose: [],
        entrypoint: "true",
        resources: { vcpus: 1, memory_mb: 64, disk_gb: 1 },
        network: { join_formnet: false, external_networks: [] },
        metadata: {},
        ...formfile,
      },
      contextDir: this.directory("ctx"),
      noCache,
      limits: { ...LIMITS, ...limits },
    };
  }
}

/** The pids of processes with a word in their command line. */
export function processesWith(word: string): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, "latin1").includes(word);
      } catch {
        return false;
      }
    })
    .map(Number);
}

/** Waits until a list is empty. */
export async function ended(list: () => unknown[]): Promise<void> {
  await waitFor(() => list().length === 0, { timeoutMs: 15_000, what: "processes to end" });
}
