// What keeps the cores busy during a measurement: CPU time from /proc (proc(5)) of this process, of the
// programs that it started (each with all its children), and of the whole machine. So a report can name the
// limit.

import { readdirSync, readFileSync } from "node:fs";
import { availableParallelism } from "node:os";

/** CPU time of each counted program, in cores: 1 is one core all the time. */
export interface Busy {
  /** `postgres`, `nats`, `workers`, `bench`, and `others` on the same machine. */
  by: Record<string, number>;
  total: number;
  /** Time that cores were idle while a process waited for a disk. */
  waiting: number;
  cores: number;
  seconds: number;
}

/** Ticks per second in /proc: the same on every Linux that Node runs on. */
const TICKS = 100;
/** The group of a program by the first word of its name. */
const NAMES: readonly [RegExp, string][] = [
  [/^postgres/, "postgres"],
  [/^nats/, "nats"],
  [/^(node|Main)/, "workers"],
];

/**
 * Starts to count. The returned function gives the use since then. A process that ends in between is counted
 * with its parent only.
 */
export function watchCores(): () => Busy {
  const [before, all, start] = [ticksByName(), machine(), performance.now()];
  return () => {
    const seconds = (performance.now() - start) / 1000;
    const cores = (ticks: number) => ticks / TICKS / seconds;
    const by: Record<string, number> = {};
    let ours = 0;
    for (const [name, ticks] of ticksByName()) {
      by[name] = cores(ticks - (before.get(name) ?? 0));
      ours += by[name];
    }
    const now = machine();
    const [total, waiting] = [cores(now.busy - all.busy), cores(now.waiting - all.waiting)];
    by["others"] = Math.max(0, total - ours);
    return { by, total, waiting, cores: availableParallelism(), seconds };
  };
}

/** Formats as `1.98 of 2 cores busy: postgres 0.90, workers 0.80`. */
export function told({ by, total, waiting, cores }: Busy): string {
  const parts = Object.entries(by).sort(([, a], [, b]) => b - a);
  const shares = parts.map(([name, share]) => `${name} ${share.toFixed(2)}`).join(", ");
  return `${total.toFixed(2)} of ${cores} cores busy: ${shares}; ${waiting.toFixed(2)} waited for a disk`;
}

/**
 * What limited the measured programs. The disk, or the programs that used the cores, if the cores were idle
 * for less than a tenth of the time. Other programs on the machine, if they took more than a tenth. The cores
 * too, if there are fewer than linear scaling needs. Otherwise nothing.
 * @param linear how many cores as many times the work of one would take, by what one took.
 */
export function limitOf({ by, total, waiting, cores }: Busy, linear: number): string | null {
  const others = by["others"] ?? 0;
  if (total + waiting >= 0.9 * cores) {
    if (total < 0.9 * cores) return `the disk, for which ${waiting.toFixed(2)} of the ${cores} cores waited`;
    if (others > 0.1 * cores) {
      return `other work, which took ${others.toFixed(2)} of the ${cores} cores: not judged`;
    }
  } else if (linear <= cores) return null;
  return `the ${cores} cores: linear would take ${linear.toFixed(2)}`;
}

/** How many cores the measured programs used. */
export function ownShare({ by, total }: Busy): number {
  return total - (by["others"] ?? 0);
}

/** The average of several measurements. */
export function average(seen: readonly Busy[]): Busy {
  const mean = (of: (busy: Busy) => number) => seen.reduce((sum, busy) => sum + of(busy), 0) / seen.length;
  const names = new Set(seen.flatMap(({ by }) => Object.keys(by)));
  return {
    by: Object.fromEntries([...names].map((name) => [name, mean(({ by }) => by[name] ?? 0)])),
    total: mean(({ total }) => total),
    waiting: mean(({ waiting }) => waiting),
    cores: mean(({ cores }) => cores),
    seconds: mean(({ seconds }) => seconds),
  };
}

/** The process of a program that this process started, by its group name. */
export function childNamed(name: string): number {
  const pattern = NAMES.find(([, called]) => called === name)?.[0];
  for (const { pid, parent, comm } of processes()) {
    if (parent === process.pid && pattern?.test(comm)) return pid;
  }
  throw new Error(`no ${name} was started`);
}

/** The process and its descendants. */
export function treeOf(pid: number): number[] {
  const all = [...processes()];
  const below = (one: number): number[] => [
    one,
    ...all.filter(({ parent }) => parent === one).flatMap((child) => below(child.pid)),
  ];
  return below(pid);
}

function ticksByName(): Map<string, number> {
  const children = new Map<number, number[]>();
  const found = new Map<number, Process>();
  for (const one of processes()) {
    found.set(one.pid, one);
    children.set(one.parent, [...(children.get(one.parent) ?? []), one.pid]);
  }
  /** CPU ticks of a process and its children; ended children are in the account of their parent. */
  const below = (pid: number): number =>
    (found.get(pid)?.ticks ?? 0) + (children.get(pid) ?? []).reduce((sum, child) => sum + below(child), 0);
  const { user, system } = process.cpuUsage();
  const sums = new Map<string, number>([["bench", ((user + system) / 1e6) * TICKS]]);
  for (const pid of children.get(process.pid) ?? []) {
    const comm = found.get(pid)?.comm ?? "";
    const name = NAMES.find(([pattern]) => pattern.test(comm))?.[1] ?? comm;
    sums.set(name, (sums.get(name) ?? 0) + below(pid));
  }
  return sums;
}

interface Process {
  pid: number;
  parent: number;
  comm: string;
  ticks: number;
}

function* processes(): Iterable<Process> {
  for (const entry of readdirSync("/proc")) {
    const one = /^\d+$/.test(entry) ? readProcess(Number(entry)) : null;
    if (one) yield one;
  }
}

function readProcess(pid: number): Process | null {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    const end = text.lastIndexOf(")");
    const rest = text.slice(end + 2).split(" ");
    const number = (index: number) => Number(rest[index]);
    // utime, stime, cutime and cstime are the fields 14 to 17.
    const ticks = number(11) + number(12) + number(13) + number(14);
    return { pid, parent: number(1), comm: text.slice(text.indexOf("(") + 1, end), ticks };
  } catch {
    return null; // it ended
  }
}

/** Ticks of all cores since boot: busy, and idle while a process waited for a disk. */
function machine(): { busy: number; waiting: number } {
  const [, ...fields] = (readFileSync("/proc/stat", "utf8").split("\n")[0] ?? "").split(/\s+/);
  const [user = 0, nice = 0, system = 0, , waiting = 0, irq = 0, soft = 0] = fields.map(Number);
  return { busy: user + nice + system + irq + soft, waiting };
}
