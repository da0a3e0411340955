// The true state of the simulated world, whatever a process believes: which machine runs where, and the
// violations that no history may show. The simulation checks them at every change, not only at its end.

import type { NodeRecord } from "@formation-mcp/contract";
import { elapsed } from "./time.ts";

export type Resources = NodeRecord["capacity"];

/** The resources of a host for its machines and builds together. */
export interface Load {
  readonly host: string;
  readonly capacity: Resources;
  readonly used: Resources;
}

export interface Truth {
  /** The violations found, each with its time. */
  readonly offences: string[];
  /** How often each event happened, for the report. */
  readonly counts: Map<string, number>;
  count(what: string, by?: number): void;
  offence(what: string): void;
  /** The instance of each deployment; recorded when it is submitted. */
  deploymentOf(deployment: string, instance: string): void;
  started(load: Load, machine: string): void;
  ended(load: Load, machine: string): void;
  /** Takes resources of a host, or returns them with a negative sign. */
  take(load: Load, what: Partial<Resources>, sign: 1 | -1, why: string): void;
  /** The instance of a machine. */
  instanceOf(machine: string): string | undefined;
  note(about: string, what: string): void;
  /** The notes about something, oldest first. */
  history(about: string): string[];
}

const NOTES = 80;

export function truth(): Truth {
  const offences: string[] = [];
  const counts = new Map<string, number>();
  const instances = new Map<string, string>();
  const running = new Map<string, Map<string, string>>();
  const notes = new Map<string, string[]>();
  const self: Truth = {
    offences,
    counts,
    count: (what, by = 1) => void counts.set(what, (counts.get(what) ?? 0) + by),
    offence(what) {
      offences.push(`at ${(elapsed() / 1000).toFixed(3)} s: ${what}`);
    },
    deploymentOf: (deployment, instance) => void instances.set(deployment, instance),
    started(load, machine) {
      const instance = self.instanceOf(machine);
      if (instance === undefined) return self.offence(`${machine} runs on ${load.host} for no deployment`);
      const all = running.get(instance) ?? new Map<string, string>();
      all.set(machine, load.host);
      running.set(instance, all);
      self.note(instance, `${machine} runs on ${load.host}`);
      self.count("machines started");
      if (all.size === 1) return;
      const where = [...all].map(([id, host]) => `${id} on ${host}`).join(", ");
      self.offence(`${instance} is doubled: ${where}`);
    },
    ended(load, machine) {
      const instance = self.instanceOf(machine) ?? "";
      running.get(instance)?.delete(machine);
      self.note(instance, `${machine} no longer runs on ${load.host}`);
    },
    take(load, what, sign, why) {
      self.note(load.host, `${sign > 0 ? "+" : "-"} ${JSON.stringify(what)}: ${why}`);
      for (const key of ["vcpus", "memory_mb", "disk_gb"] as const) {
        load.used[key] += sign * (what[key] ?? 0);
        if (sign > 0 && load.used[key] > load.capacity[key]) {
          self.offence(`${load.host} has ${load.capacity[key]} ${key} and uses ${load.used[key]}: ${why}`);
        }
      }
    },
    instanceOf: (machine) => instances.get(machine.slice(0, machine.lastIndexOf("."))),
    note(about, what) {
      const lines = notes.get(about) ?? [];
      lines.push(`${(elapsed() / 1000).toFixed(3)} ${what}`);
      if (lines.length > NOTES) lines.shift();
      notes.set(about, lines);
    },
    history: (about) => notes.get(about) ?? [],
  };
  return self;
}
