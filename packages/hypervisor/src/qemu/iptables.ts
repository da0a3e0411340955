// Running iptables and ip6tables. See iptables(8) and iptables-restore(8).

import { readFileSync } from "node:fs";
import { FormationError } from "@formation-mcp/contract";
import { plainEnvironment, run } from "@formation-mcp/os";

export type Iptables = "iptables" | "ip6tables";

/**
 * Runs the action for each address family that the kernel has: without IPv6 it has no rules for it, and needs
 * none.
 */
export async function forEachFamily(action: (tool: Iptables) => Promise<unknown>): Promise<void> {
  await Promise.all((hasIPv6() ? (["iptables", "ip6tables"] as const) : (["iptables"] as const)).map(action));
}

/** The rules of a chain of the filter table, as `-S` prints them. @throws FormationError `unavailable` */
export async function listRules(tool: Iptables, chain: string): Promise<string[]> {
  const { stdout } = orThrow(tool, await call(tool, ["-S", chain]));
  return stdout.split("\n");
}

export async function chainExists(tool: Iptables, chain: string): Promise<boolean> {
  return (await call(tool, ["-S", chain])).code === 0;
}

/**
 * Changes the filter table by lines of iptables-restore(8): all of them take effect at once, or none.
 * @throws FormationError `unavailable`
 */
export async function applyRules(tool: Iptables, lines: readonly string[]): Promise<void> {
  const restore = `${tool}-restore`;
  const input = ["*filter", ...lines, "COMMIT", ""].join("\n");
  orThrow(restore, await call(restore, ["--noflush"], input));
}

function call(tool: string, args: readonly string[], input?: string) {
  const wait = tool.endsWith("-restore") ? ["--wait", "10"] : ["-w", "10"];
  return run(tool, [...wait, ...args], {
    timeoutMs: 20_000,
    env: plainEnvironment(),
    ...(input === undefined ? {} : { input }),
  });
}

function orThrow<T extends { code: number; stderr: string }>(tool: string, result: T): T {
  if (result.code === 0) return result;
  throw new FormationError("unavailable", `${tool}: ${result.stderr.trim().split("\n").at(-1) ?? "failed"}`);
}

function hasIPv6(): boolean {
  try {
    return readFileSync("/proc/net/if_inet6", "utf8") !== "";
  } catch {
    return false;
  }
}
