// What a guest with internet access may reach. QEMU opens a guest's connections itself, as the machine's own account; so
// the host's packet filter can tell them by their owner. One chain of ours holds the rules; each running machine has one
// rule that leads there, and the chain goes with the last of them. See iptables-extensions(8), owner and addrtype.

import { readFileSync } from "node:fs";
import { isIPv6 } from "node:net";
import { FormationError, type Logger } from "@formation-mcp/contract";
import { plainEnvironment, run } from "@formation-mcp/os";
import type { MachineStatus } from "./port.ts";

/** Beyond the host's own addresses: private, shared, link-local, multicast and reserved networks. */
const CLOSED_V4 = [
  "0.0.0.0/8",
  "10.0.0.0/8",
  "100.64.0.0/10",
  "169.254.0.0/16",
  "172.16.0.0/12",
  "192.168.0.0/16",
  "224.0.0.0/4",
  "240.0.0.0/4",
];
const CLOSED_V6 = ["fc00::/7", "fe80::/10", "ff00::/8"];

export interface Firewall {
  /** Leads what the account sends through our rules; `none` with the reason where that can't be done. */
  allow(uid: number): Promise<MachineStatus["egress"]>;
  /** Idempotent; must be called only once no process of that account runs. */
  remove(uid: number): Promise<void>;
  /** Puts back what somebody else took out of the host's rules. */
  restore(): Promise<void>;
  /** Removes the rules of all other accounts; makes those of these anew if need be. */
  keepOnly(uids: readonly number[]): Promise<void>;
}

export interface FirewallOptions {
  /** The chain's name: at most 28 characters, unlike that of every other worker on the host. */
  chain: string;
  allowCidrs: readonly string[];
  denyCidrs: readonly string[];
  /** Whether there may be rules of ours at all: root alone can make them. */
  enabled: boolean;
  logger: Logger;
  /** The file that names the host's resolvers. */
  resolvConf?: string;
}

type Tool = "iptables" | "ip6tables";

/** @throws FormationError `invalid` for a network that is none. */
export function openFirewall(options: FirewallOptions): Firewall {
  for (const cidr of [...options.allowCidrs, ...options.denyCidrs]) checkCidr(cidr);
  const { chain } = options;
  const led = new Set<number>();
  // Rules of several machines are changed one after the other: the last one takes the chain along.
  let turn: Promise<unknown> = Promise.resolve();
  const inTurn = <T>(action: () => Promise<T>): Promise<T> => {
    const result = turn.then(action, action);
    turn = result.catch(() => {});
    return result;
  };
  const jump = (uid: number) => ["-m", "owner", "--uid-owner", String(uid), "-j", chain];
  const unlead = async (tool: Tool, uid: number) => {
    while ((await call(tool, ["-D", "OUTPUT", ...jump(uid)])).code === 0);
  };
  // Never taken out and put in again: a guest may be running.
  const insert = async (tool: Tool, uid: number) => {
    if ((await call(tool, ["-C", "OUTPUT", ...jump(uid)])).code === 0) return;
    await must(tool, ["-I", "OUTPUT", "1", ...jump(uid)]);
  };
  const lead = async (uid: number) => {
    for (const tool of tools()) {
      if (led.size === 0) await makeChain(tool, options);
      await insert(tool, uid);
    }
    led.add(uid);
  };
  const dropChain = async () => {
    for (const tool of tools()) {
      await call(tool, ["-F", chain]);
      await call(tool, ["-X", chain]);
    }
  };
  return {
    allow: (uid) =>
      inTurn(async (): Promise<MachineStatus["egress"]> => {
        try {
          await lead(uid);
          return { mode: "internet", reason: "filtered by the host's packet filter, per machine" };
        } catch (error) {
          options.logger.log("warn", "Guests get no internet: the packet filter refuses.", {
            error: String(error),
          });
          for (const tool of tools()) await unlead(tool, uid).catch(() => {});
          if (led.size === 0) await dropChain().catch(() => {});
          return { mode: "none", reason: "the host's packet filter (iptables) does not work here" };
        }
      }),
    remove: (uid) =>
      inTurn(async () => {
        if (!led.has(uid)) return;
        for (const tool of tools()) await unlead(tool, uid);
        led.delete(uid);
        if (led.size === 0) await dropChain();
      }),
    restore: () =>
      inTurn(async () => {
        if (led.size === 0) return;
        for (const tool of tools()) {
          await makeChain(tool, options);
          for (const uid of led) await insert(tool, uid);
        }
      }),
    keepOnly: (uids) =>
      inTurn(async () => {
        if (!options.enabled) return;
        for (const tool of tools()) {
          const rules = await call(tool, ["-S", "OUTPUT"]).catch(() => null);
          const found = (rules?.stdout ?? "").split("\n").filter((rule) => rule.endsWith(`-j ${chain}`));
          for (const rule of found) {
            const uid = Number(/--uid-owner (\d+)/.exec(rule)?.[1]);
            if (!uids.includes(uid)) await unlead(tool, uid);
          }
        }
        led.clear();
        for (const uid of uids) await lead(uid);
        if (uids.length === 0) await dropChain().catch(() => {}); // no iptables, no chain
      }),
  };
}

/** The rules of the chain, in order, as iptables-restore(8) reads them. Pure. */
export function chainRules(
  family: 4 | 6,
  options: { allowCidrs: readonly string[]; denyCidrs: readonly string[]; resolvers: readonly string[] },
): string[] {
  const mine = (address: string) => isIPv6(address.split("/")[0] ?? "") === (family === 6);
  const reject = (match: string) => `${match} -j REJECT`;
  return [
    // First: answers on connections that the host opened to a forwarded port.
    "-m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
    ...options.resolvers
      .filter(mine)
      .flatMap((one) => ["udp", "tcp"].map((protocol) => `-d ${one} -p ${protocol} --dport 53 -j ACCEPT`)),
    ...options.denyCidrs.filter(mine).map((cidr) => reject(`-d ${cidr}`)),
    reject("-m addrtype --dst-type LOCAL"),
    ...options.allowCidrs.filter(mine).map((cidr) => `-d ${cidr} -j ACCEPT`),
    ...(family === 4 ? CLOSED_V4 : CLOSED_V6).map((cidr) => reject(`-d ${cidr}`)),
  ];
}

async function makeChain(tool: Tool, options: FirewallOptions): Promise<void> {
  const resolvers = readResolvers(options.resolvConf ?? "/etc/resolv.conf");
  const rules = chainRules(tool === "iptables" ? 4 : 6, { ...options, resolvers });
  // Naming a chain of ours empties it; the whole is put in place at once.
  const lines = [
    "*filter",
    `:${options.chain} - [0:0]`,
    ...rules.map((rule) => `-A ${options.chain} ${rule}`),
    "COMMIT",
    "",
  ];
  await must(`${tool}-restore`, ["--noflush"], lines.join("\n"));
}

function tools(): Tool[] {
  // A kernel without IPv6 has no rules for it and needs none; guests have none in any case.
  return hasIPv6() ? ["iptables", "ip6tables"] : ["iptables"];
}

function hasIPv6(): boolean {
  try {
    return readFileSync("/proc/net/if_inet6", "utf8") !== "";
  } catch {
    return false;
  }
}

function readResolvers(path: string): string[] {
  try {
    return [...readFileSync(path, "utf8").matchAll(/^\s*nameserver\s+([0-9A-Fa-f.:]+)\s*$/gm)].map(
      (match) => match[1] ?? "",
    );
  } catch {
    return [];
  }
}

function call(tool: string, args: readonly string[], input?: string) {
  const wait = tool.endsWith("-restore") ? ["--wait", "10"] : ["-w", "10"];
  return run(tool, [...wait, ...args], {
    timeoutMs: 20_000,
    env: plainEnvironment(),
    ...(input === undefined ? {} : { input }),
  });
}

async function must(tool: string, args: readonly string[], input?: string): Promise<void> {
  const result = await call(tool, args, input);
  if (result.code === 0) return;
  throw new FormationError("unavailable", `${tool}: ${result.stderr.trim().split("\n").at(-1) ?? "failed"}`);
}

function checkCidr(cidr: string): void {
  if (/^[0-9]{1,3}(\.[0-9]{1,3}){3}(\/([0-9]|[12][0-9]|3[0-2]))?$/.test(cidr)) return;
  const [address = "", length = "128"] = cidr.split("/");
  if (isIPv6(address) && /^[0-9]{1,3}$/.test(length) && Number(length) <= 128) return;
  throw new FormationError("invalid", `${JSON.stringify(cidr)} is no network in CIDR notation.`, {
    remedy: "Write it like 203.0.113.0/24 or 2001:db8::/32.",
  });
}
