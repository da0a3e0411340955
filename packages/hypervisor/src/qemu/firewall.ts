// What the guests may reach. QEMU opens a guest's connections itself, as the machine's own account, so the
// host's packet filter tells machines apart by the owner of a connection. This file keeps which account may
// do what, and changes rules one at a time.

import { createKeyedLock } from "@formation-mcp/base";
import type { Logger } from "@formation-mcp/contract";
import type { MachineStatus } from "../port.ts";
import { type ChainOptions, createFirewallChains, type Way } from "./firewall-chains.ts";
import { checkCidr } from "./firewall-rules.ts";

export interface Firewall {
  /**
   * Lets the account reach the internet through our rules; resolves with `none` and the reason if that fails.
   */
  allow(uid: number): Promise<MachineStatus["egress"]>;
  /**
   * Lets the account only answer. QEMU's `restrict=on` does the same, so a failure is not an error. Resolves
   * with whether the rules are in place.
   */
  close(uid: number): Promise<boolean>;
  /** Deletes the account's rule. Idempotent; call it only when no process of the account runs. */
  remove(uid: number): Promise<void>;
  /** Puts back rules that something else on the host deleted. */
  restore(): Promise<void>;
  /** Deletes the rules of all other accounts, and puts back those of these if they are missing. */
  keepOnly(machines: readonly { uid: number; way: Way }[]): Promise<void>;
}

export interface FirewallOptions extends ChainOptions {
  /** Whether the worker can make rules at all: only root can. */
  enabled: boolean;
  logger: Logger;
}

/** @throws FormationError `invalid` for a network that is not in CIDR notation. */
export function createFirewall(options: FirewallOptions): Firewall {
  for (const cidr of [...options.allowCidrs, ...options.denyCidrs]) checkCidr(cidr);
  const chains = createFirewallChains(options);
  const ways = new Map<number, Way>();
  // The first rule makes the chains and the last one deletes them, so rules are changed one after the other.
  const lock = createKeyedLock();
  const inTurn = <T>(action: () => Promise<T>) => lock.run(options.chain, action);
  const add = async (uid: number, way: Way) => {
    if (ways.get(uid) === way) return;
    await chains.addJump(uid, way, ways.size === 0);
    ways.set(uid, way);
  };
  const deleteAll = (uid: number) => chains.deleteJumps((one) => one === uid, ways.size === 0);
  const undo = async (uid: number) => {
    ways.delete(uid);
    await deleteAll(uid).catch(() => {});
  };
  return {
    allow: (uid) =>
      inTurn(async (): Promise<MachineStatus["egress"]> => {
        try {
          await add(uid, "internet");
          return { mode: "internet", reason: "filtered by the host's packet filter, per machine" };
        } catch (error) {
          options.logger.log("warn", "Guests get no internet: the packet filter refuses.", {
            error: String(error),
          });
          await undo(uid);
          return { mode: "none", reason: "the host's packet filter (iptables) does not work here" };
        }
      }),
    close: (uid) =>
      inTurn(async () => {
        if (!options.enabled) return false;
        try {
          await add(uid, "none");
          return true;
        } catch {
          await undo(uid);
          return false;
        }
      }),
    remove: (uid) =>
      inTurn(async () => {
        if (ways.delete(uid)) await deleteAll(uid);
      }),
    restore: () =>
      inTurn(async () => {
        if (ways.size > 0) await chains.restore(ways);
      }),
    keepOnly: (machines) =>
      inTurn(async () => {
        if (!options.enabled) return;
        ways.clear();
        for (const { uid, way } of machines) ways.set(uid, way);
        try {
          await chains.deleteJumps((uid) => !ways.has(uid), ways.size === 0);
          if (ways.size > 0) await chains.restore(ways);
        } catch (error) {
          // Without a packet filter there are no rules of ours, which is an error only for a machine that
          // needs them.
          if (machines.some(({ way }) => way === "internet")) throw error;
        }
      }),
  };
}
