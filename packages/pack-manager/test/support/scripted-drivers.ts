// A builder and a hypervisor in memory. A test can block, fail or watch each of their steps.

import type { Builder, BuildHooks, BuildRequest } from "@formation-mcp/builder";
import { FormationError, type Image, LIMITS } from "@formation-mcp/contract";
import type { Hypervisor, MachineSpec, MachineStatus } from "@formation-mcp/hypervisor";

export function aborted(signal: AbortSignal): Promise<never> {
  const error = () => new FormationError("cancelled", "Cancelled.");
  if (signal.aborted) return Promise.reject(error());
  return new Promise((_resolve, reject) =>
    signal.addEventListener("abort", () => reject(error()), { once: true }),
  );
}

export interface ScriptedBuilder extends Builder {
  /** What the next builds do before they succeed, one entry per build. Later builds just succeed. */
  script: ((request: BuildRequest, hooks: BuildHooks) => Promise<void> | void)[];
  onDisk: ((signal: AbortSignal) => Promise<void>) | null;
  onImport: ((signal: AbortSignal) => Promise<void>) | null;
  /** The digest of each import, in order. */
  imported: string[];
  requests: BuildRequest[];
  kept: Map<string, number>;
}

export function scriptedBuilder(): ScriptedBuilder {
  let made = 0;
  const builder: ScriptedBuilder = {
    script: [],
    onDisk: null,
    onImport: null,
    imported: [],
    requests: [],
    kept: new Map(),
    async build(request, hooks) {
      builder.requests.push(request);
      hooks.onStep("pull", "Pulling the base.", 0.1);
      await runScript(builder.script.shift(), request, hooks);
      if (hooks.signal.aborted) await aborted(hooks.signal);
      const digest = `sha256:${String(++made).padStart(64, "0")}`;
      builder.kept.set(digest, 100);
      const process = { argv: ["/bin/true"], env: {}, workdir: "/", user: "" };
      const base = { reference: request.formfile.from, digest: "sha256:base" };
      return { digest, bytes: 100, process, expose: request.formfile.expose, base } satisfies Image;
    },
    async disk(digest, _diskGb, signal) {
      await builder.onDisk?.(signal);
      if (!builder.kept.has(digest)) throw new FormationError("not_found", "No such image.");
      return `/disks/${digest}`;
    },
    images: async () => [...builder.kept].map(([digest, bytes]) => ({ digest, bytes })),
    async *exportImage(digest) {
      yield Buffer.from(`archive of ${digest}`);
    },
    async importImage(digest, content, signal) {
      const parts: Uint8Array[] = [];
      for await (const part of content) parts.push(part);
      builder.imported.push(digest);
      await builder.onImport?.(signal);
      if (Buffer.concat(parts).toString() !== `archive of ${digest}`) {
        throw new FormationError("invalid", "Another image.");
      }
      builder.kept.set(digest, 100);
    },
    async remove(digest) {
      builder.kept.delete(digest);
    },
    trim: async () => 0,
    recover: async () => {},
    destroy: async () => {},
    probe: async () => ({ driver: "scripted", version: "1", ready: true, problems: [], enforced: [] }),
  };
  return builder;
}

/** Adds the last lines to an error, as the port promises. */
async function runScript(
  script: ScriptedBuilder["script"][number] | undefined,
  request: BuildRequest,
  hooks: BuildHooks,
): Promise<void> {
  const lines: string[] = [];
  const onLine: BuildHooks["onLine"] = (stream, line) => {
    lines.push(line);
    hooks.onLine(stream, line);
  };
  try {
    await script?.(request, { ...hooks, onLine });
  } catch (thrown) {
    if (!(thrown instanceof FormationError) || lines.length === 0) throw thrown;
    const { code, message, details, cause } = thrown;
    throw new FormationError(code, message, {
      ...details,
      log_tail: lines.slice(-LIMITS.errorLogLines),
      cause,
    });
  }
}

type Verb = "create" | "start" | "waitLive" | "stop" | "pause" | "resume" | "remove";

export interface ScriptedHypervisor extends Hypervisor {
  /** Called at the beginning of a verb, which throws what this throws. */
  on: Partial<Record<Verb, (id: string, signal: AbortSignal) => Promise<void> | void>>;
  machines: Map<string, MachineStatus>;
  specs: Map<string, MachineSpec>;
  /** Every call as verb and machine, in order. */
  calls: string[];
  /** The highest number of machines that ran at a time. */
  mostRunning: number;
  /** Machines on a leash, with the timer that ends each. */
  leashes: Map<string, NodeJS.Timeout>;
  say(id: string, line: string): void;
  /** Ends the process of a machine as if by itself. */
  die(id: string, status: Partial<MachineStatus>): void;
}

export function scriptedHypervisor(now: () => number = Date.now): ScriptedHypervisor {
  const listeners = new Set<(id: string) => void>();
  const followers = new Map<string, { onLine: (line: string) => void; end: () => void }>();
  const said = new Map<string, string[]>();
  const never = new AbortController().signal;
  const tell = (id: string) => {
    for (const listener of listeners) listener(id);
  };
  const change = (id: string, patch: Partial<MachineStatus>) => {
    const before = hypervisor.machines.get(id);
    if (before) hypervisor.machines.set(id, { ...before, ...patch });
    const running = [...hypervisor.machines.values()].filter((each) => each.state === "running").length;
    hypervisor.mostRunning = Math.max(hypervisor.mostRunning, running);
    tell(id);
  };
  const step = async (verb: Verb, id: string, signal = never) => {
    hypervisor.calls.push(`${verb} ${id}`);
    await hypervisor.on[verb]?.(id, signal);
    if (signal.aborted) await aborted(signal);
  };
  const must = (id: string) => {
    const found = hypervisor.machines.get(id);
    if (!found) throw new FormationError("not_found", `There is no machine ${id}.`);
    return found;
  };
  const untie = (id: string) => {
    clearTimeout(hypervisor.leashes.get(id));
    return hypervisor.leashes.delete(id);
  };
  const tie = (id: string, leashMs: number) => {
    const end = () => {
      untie(id);
      const { state } = must(id);
      if (state !== "running" && state !== "paused") return;
      hypervisor.die(id, { exit: { reason: "killed", code: null } });
    };
    hypervisor.leashes.set(id, setTimeout(end, leashMs).unref());
  };
  const hypervisor: ScriptedHypervisor = {
    on: {},
    machines: new Map(),
    specs: new Map(),
    calls: [],
    mostRunning: 0,
    leashes: new Map(),
    say(id, line) {
      const follower = followers.get(id);
      if (follower) follower.onLine(line);
      else said.set(id, [...(said.get(id) ?? []), line]);
    },
    die(id, status) {
      change(id, { state: "stopped", pid: null, ...status });
    },
    async create(spec) {
      await step("create", spec.id);
      if (hypervisor.machines.has(spec.id)) return;
      hypervisor.specs.set(spec.id, spec);
      hypervisor.machines.set(spec.id, fresh(spec));
    },
    async start(id, { signal, leashMs }) {
      await step("start", id, signal);
      const { state } = must(id);
      if (state !== "running" && state !== "paused") {
        if (leashMs !== undefined) tie(id, leashMs);
        change(id, { state: "running", pid: 4242, accelerator: "tcg", exit: null, guest: quietGuest() });
      }
      return must(id);
    },
    async prolong(id, leashMs) {
      if (untie(id)) tie(id, leashMs);
    },
    async release(id) {
      untie(id);
    },
    async waitLive(id, { signal }) {
      await step("waitLive", id, signal);
      if (must(id).exit?.reason === "killed") throw new FormationError("unavailable", "It was killed.");
      const ports = hypervisor.specs.get(id)?.ports ?? [];
      change(id, {
        guest: {
          started_at: now(),
          listening: ports.map((p) => p.guest_port),
          exit_code: null,
          problem: null,
        },
      });
      return must(id);
    },
    async stop(id) {
      await step("stop", id);
      untie(id);
      const found = hypervisor.machines.get(id);
      if (found?.state === "running" || found?.state === "paused") {
        change(id, { state: "stopped", pid: null, exit: { reason: "stopped", code: null } });
      }
    },
    async pause(id) {
      await step("pause", id);
      if (must(id).state === "running") change(id, { state: "paused" });
    },
    async resume(id) {
      await step("resume", id);
      if (must(id).state === "paused") change(id, { state: "running" });
    },
    async remove(id) {
      await step("remove", id);
      untie(id);
      hypervisor.machines.delete(id);
      followers.get(id)?.end();
      tell(id);
    },
    inspect: async (id) => hypervisor.machines.get(id) ?? { ...fresh({ id, ports: [] }), state: "absent" },
    list: async () => [...hypervisor.machines.values()],
    async follow(id, signal, onLine) {
      for (const line of said.get(id) ?? []) onLine("stdout", line);
      said.delete(id);
      await new Promise<void>((resolve) => {
        const end = () => {
          followers.delete(id);
          resolve();
        };
        followers.set(id, { onLine: (line) => onLine("stdout", line), end });
        signal.addEventListener("abort", end, { once: true });
      });
    },
    onChange(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    recover: async () => {},
    probe: async () => ({
      driver: "scripted",
      version: "1",
      accelerator: "tcg",
      ready: true,
      problems: [],
      enforced: [],
    }),
    close: async () => {},
  };
  return hypervisor;
}

function quietGuest(): MachineStatus["guest"] {
  return { started_at: null, listening: [], exit_code: null, problem: null };
}

function fresh({ id, ports }: Pick<MachineSpec, "id" | "ports">): MachineStatus {
  return {
    id,
    state: "created",
    pid: null,
    accelerator: null,
    endpoints: ports.map(({ guest_port, port }) => ({
      guest_port,
      address: "127.0.0.1",
      port: port ?? 20_000 + guest_port,
    })),
    egress: { mode: "none", reason: "Scripted." },
    guest: quietGuest(),
    exit: null,
    problem: null,
  };
}
