// What a guest with internet access may reach. QEMU opens a guest's connections itself, as the machine's own account; so
// the host's packet filter can tell them by their owner. One chain of ours holds the rules; each running machine has one
// rule that leads there, and the chain goes with the last of them. See iptables-extensions(8), owner and addrtype.

import { readFileSync } from "node:fs";
import { isIPv6 } from "node:net";
import { FormationError, type Logger } from "@formation-mcp/contract";
import { plainEnvironment, run } from "@formation-mcp/os";
import type { MachineStatus } from "../port.ts";

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

/** What a machine's account may do: reach the internet through our filter, or only answer. */
type Way = "internet" | "none";

export interface Firewall {
  /** Leads what the account sends through our rules; `none` with the reason where that can't be done. */
  allow(uid: number): Promise<MachineStatus["egress"]>;
  /**
   * Lets the account answer and do nothing else: a second line behind QEMU's own, so that failing is no error. Returns
   * whether the rules are in place.
   */
  close(uid: number): Promise<boolean>;
  /** Idempotent; must be called only once no process of that account runs. */
  remove(uid: number): Promise<void>;
  /** Puts back what somebody else took out of the host's rules. */
  restore(): Promise<void>;
  /** Removes the rules of all other accounts; makes those of these anew if need be. */
  keepOnly(machines: readonly { uid: number; way: Way }[]): Promise<void>;
}

export interface FirewallOptions {
  /** The chains' name: at most 20 characters, unlike that of every other worker on the host. */
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
  const chains: Record<Way, string> = { internet: options.chain, none: `${options.chain}-NONE` };
  const led = new Map<number, Way>();
  // Rules of several machines are changed one after the other: the last one takes the chains along.
  let turn: Promise<unknown> = Promise.resolve();
  const inTurn = <T>(action: () => Promise<T>): Promise<T> => {
    const result = turn.then(action, action);
    turn = result.catch(() => {});
    return result;
  };
  const jump = (uid: number, way: Way) => `OUTPUT -m owner --uid-owner ${uid} -j ${chains[way]}`;
  /** The host's rules that lead into our chains, one entry for each time that they stand there. */
  const present = async (tool: Tool): Promise<{ uid: number; way: Way }[]> => {
    const { stdout } = await must(tool, ["-S", "OUTPUT"]);
    return stdout.split("\n").flatMap((rule) => {
      const uid = Number(/--uid-owner (\d+)/.exec(rule)?.[1]);
      const way = (["internet", "none"] as const).find((one) => rule.endsWith(` -j ${chains[one]}`));
      return way === undefined ? [] : [{ uid, way }];
    });
  };
  /** In one go: all of it is in place, or nothing. A guest may be running: a rule is never taken out and put in again. */
  const change = (tool: Tool, lines: readonly string[]) =>
    must(`${tool}-restore`, ["--noflush"], ["*filter", ...lines, "COMMIT", ""].join("\n"));
  const make = (tool: Tool) => {
    const resolvers = readResolvers(options.resolvConf ?? "/etc/resolv.conf");
    const rules = chainRules(tool === "iptables" ? 4 : 6, { ...options, resolvers });
    const closed = [rules[0] ?? "", "-j REJECT"];
    // Naming a chain of ours empties it.
    return [
      ...Object.values(chains).map((chain) => `:${chain} - [0:0]`),
      ...rules.map((rule) => `-A ${chains.internet} ${rule}`),
      ...closed.map((rule) => `-A ${chains.none} ${rule}`),
    ];
  };
  const each = (action: (tool: Tool) => Promise<unknown>) => Promise.all(tools().map(action));
  /** Takes out every rule that leads one of these accounts to us, and the chains if nobody is left. */
  const unlead = (unwanted: (uid: number) => boolean) =>
    each(async (tool) => {
      const gone = (await present(tool)).filter(({ uid }) => unwanted(uid));
      const lines = gone.map(({ uid, way }) => `-D ${jump(uid, way)}`);
      if (led.size > 0) await change(tool, lines);
      else if (lines.length > 0 || (await call(tool, ["-S", chains.internet])).code === 0)
        await change(tool, [
          ...Object.values(chains).map((chain) => `:${chain} - [0:0]`),
          ...lines,
          ...Object.values(chains).map((chain) => `-X ${chain}`),
        ]);
    });
  const lead = async (uid: number, way: Way) => {
    if (led.get(uid) === way) return;
    const first = led.size === 0;
    await each((tool) =>
      change(tool, [...(first ? make(tool) : []), `-I ${jump(uid, way).replace(" ", " 1 ")}`]),
    );
    led.set(uid, way);
  };
  const forget = async (uid: number) => {
    led.delete(uid);
    await unlead((one) => one === uid).catch(() => {});
  };
  const restore = () =>
    each(async (tool) => {
      const there = await present(tool);
      const missing = [...led].filter(
        ([uid, way]) => !there.some((one) => one.uid === uid && one.way === way),
      );
      await change(tool, [
        ...make(tool),
        ...missing.map(([uid, way]) => `-I ${jump(uid, way).replace(" ", " 1 ")}`),
      ]);
    });
  return {
    allow: (uid) =>
      inTurn(async (): Promise<MachineStatus["egress"]> => {
        try {
          await lead(uid, "internet");
          return { mode: "internet", reason: "filtered by the host's packet filter, per machine" };
        } catch (error) {
          options.logger.log("warn", "Guests get no internet: the packet filter refuses.", {
            error: String(error),
          });
          await forget(uid);
          return { mode: "none", reason: "the host's packet filter (iptables) does not work here" };
        }
      }),
    close: (uid) =>
      inTurn(async () => {
        if (!options.enabled) return false;
        try {
          await lead(uid, "none");
          return true;
        } catch {
          await forget(uid);
          return false;
        }
      }),
    remove: (uid) =>
      inTurn(async () => {
        if (!led.delete(uid)) return;
        await unlead((one) => one === uid);
      }),
    restore: () =>
      inTurn(async () => {
        if (led.size > 0) await restore();
      }),
    keepOnly: (machines) =>
      inTurn(async () => {
        if (!options.enabled) return;
        led.clear();
        for (const { uid, way } of machines) led.set(uid, way);
        try {
          await unlead((uid) => !led.has(uid));
          if (led.size > 0) await restore();
        } catch (error) {
          // Without a packet filter there are no rules of ours; machines that need them must not go on without.
          if (machines.some(({ way }) => way === "internet")) throw error;
        }
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

async function must(tool: string, args: readonly string[], input?: string) {
  const result = await call(tool, args, input);
  if (result.code === 0) return result;
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
