// The network between a worker and its two servers: one connection each, which can be cut. As root it is a
// veth pair into the network namespace of the worker, and a cut takes the link down; otherwise it is a TCP
// proxy on loopback.

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readlinkSync } from "node:fs";
import { waitFor } from "@formation-mcp/os";
import type { ClusterOptions } from "../../../examples/cluster/ground.ts";
import { type Cable, lay } from "./cable.ts";

export type Line = "nats" | "postgres";

export interface Wires extends Pick<ClusterOptions, "listen" | "wayFor"> {
  /** How a cut works here. */
  readonly how: string;
  /** No data passes any more, and neither side is told. */
  cut(worker: string, line: Line): void;
  mend(worker: string, line: Line): void;
  close(): Promise<void>;
}

/** @param lane distinguishes the clusters of this process. */
export function layWires(lane: number): Wires {
  return process.getuid?.() === 0 && mayMakeNamespaces() ? namespaces(lane) : cables();
}

/** Removes the links and namespaces of processes that have ended; returns those of this process. */
export function clearWires(): string[] {
  if (process.getuid?.() !== 0) return [];
  for (const name of ours()) if (!existsSync(`/proc/${pidOf(name)}`)) remove(name);
  return ours().filter((name) => pidOf(name) === process.pid);
}

const LINES: readonly Line[] = ["nats", "postgres"];
/** Bridges and links: `ff<n|p><pid>-…`, in base 36, because such a name has at most 15 characters. */
const NAME = /^ff[np]([0-9a-z]+)-/;
const NSENTER = "/usr/bin/nsenter";

function namespaces(lane: number): Wires {
  clearWires();
  const made = process.pid.toString(36);
  const bridge = (line: Line) => `ff${line.charAt(0)}${made}-${lane}`;
  const link = (worker: string, line: Line) => `${bridge(line)}x${numberOf(worker)}`;
  const holders: ChildProcess[] = [];
  const nets = Object.fromEntries(LINES.map((line, at) => [line, freeNet(lane * 2 + at)])) as Record<
    Line,
    string
  >;
  for (const line of LINES) {
    ip("link", "add", bridge(line), "type", "bridge");
    ip("addr", "add", `${nets[line]}.1/24`, "dev", bridge(line));
    ip("link", "set", bridge(line), "up");
  }
  return {
    how: "namespaces",
    listen: { nats: `${nets.nats}.1`, postgres: `${nets.postgres}.1` },
    async wayFor(worker, ports) {
      const holder = await holdNamespace();
      holders.push(holder);
      const within = [NSENTER, `--net=/proc/${holder.pid}/ns/net`, "--"];
      const inside = (...args: string[]) => execFileSync(NSENTER, [...within.slice(1), "ip", ...args]);
      inside("link", "set", "lo", "up");
      for (const line of LINES) {
        ip("link", "add", link(worker, line), "type", "veth", "peer", "name", line, "netns", `${holder.pid}`);
        ip("link", "set", link(worker, line), "master", bridge(line), "up");
        inside("addr", "add", `${nets[line]}.${10 + numberOf(worker)}/24`, "dev", line);
        inside("link", "set", line, "up");
      }
      return {
        nats: `${nets.nats}.1:${ports.nats}`,
        postgres: `${nets.postgres}.1:${ports.postgres}`,
        within,
      };
    },
    cut: (worker, line) => ip("link", "set", link(worker, line), "down"),
    mend: (worker, line) => ip("link", "set", link(worker, line), "up"),
    async close() {
      for (const holder of holders) {
        const gone = once(holder, "exit");
        holder.kill("SIGKILL");
        await gone;
      }
      for (const line of LINES) {
        for (const name of ours()) if (name.startsWith(`${bridge(line)}x`)) remove(name);
        remove(bridge(line));
      }
    },
  };
}

function cables(): Wires {
  const laid = new Map<string, Cable>();
  const cable = (worker: string, line: Line) => {
    const found = laid.get(`${worker} ${line}`);
    if (!found) throw new Error(`${worker} has no cable to ${line}.`);
    return found;
  };
  return {
    how: "cables",
    async wayFor(worker, ports) {
      for (const line of LINES) laid.set(`${worker} ${line}`, await lay(ports[line]));
      const { address: nats } = cable(worker, "nats");
      return { nats, postgres: cable(worker, "postgres").address, within: [] };
    },
    cut: (worker, line) => cable(worker, line).cut(),
    mend: (worker, line) => cable(worker, line).mend(),
    async close() {
      for (const each of laid.values()) await each.close();
    },
  };
}

function mayMakeNamespaces(): boolean {
  try {
    execFileSync("unshare", ["--net", "true"], { stdio: "ignore" });
    return existsSync(NSENTER);
  } catch {
    return false;
  }
}

/**
 * A network namespace that exists as long as its process, which ends with this one. A named namespace would
 * be mounted below /run, where other programs such as slirp4netns unmount it.
 */
async function holdNamespace(): Promise<ChildProcess> {
  const words = ["--pdeathsig", "KILL", "unshare", "--net", "sleep", "infinity"];
  const holder = spawn("setpriv", words, { stdio: "ignore" });
  const spaceOf = (pid: number | undefined) => readlinkSync(`/proc/${pid}/ns/net`);
  await waitFor(() => spaceOf(holder.pid) !== spaceOf(process.pid), {
    timeoutMs: 10_000,
    what: "a namespace",
  });
  return holder;
}

function ip(...args: string[]): void {
  execFileSync("ip", args, { stdio: ["ignore", "ignore", "pipe"] });
}

function ours(): string[] {
  const text = execFileSync("ip", ["-br", "link"], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  return text
    .split("\n")
    .flatMap((line) => line.split(/[\s@]/)[0] ?? [])
    .filter((name) => NAME.test(name));
}

function pidOf(name: string): number {
  return Number.parseInt(NAME.exec(name)?.[1] ?? "", 36);
}

function remove(name: string): void {
  try {
    ip("link", "del", name);
  } catch {
    // It was removed with its other end, when that namespace ended.
  }
}

function numberOf(worker: string): number {
  return Number(worker.slice("node-".length));
}

/** The first three bytes of a private /24 in which this machine has no address. */
function freeNet(which: number): string {
  const taken = execFileSync("ip", ["-4", "-br", "addr"], { encoding: "utf8" });
  for (let i = 0; i < 16_384; i++) {
    const at = (process.pid * 16 + which + i * 64) % 16_384;
    const net = `10.${64 + Math.floor(at / 256)}.${at % 256}`;
    if (!taken.includes(`${net}.`)) return net;
  }
  throw new Error("No private network is free on this machine.");
}
