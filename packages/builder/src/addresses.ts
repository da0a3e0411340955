// Which addresses a build may not reach: the host's own, loopback, private, shared, link-local and multicast ranges (RFC
// 6890), unless the operator allows them. The documentation ranges stay open: a package mirror may stand there.

import { BlockList, isIPv4 } from "node:net";
import { networkInterfaces } from "node:os";
import { FormationError } from "@formation-mcp/contract";

const DENIED_V4 = [
  "0.0.0.0/8",
  "10.0.0.0/8",
  "100.64.0.0/10",
  "127.0.0.0/8",
  "169.254.0.0/16",
  "172.16.0.0/12",
  "192.168.0.0/16",
  "224.0.0.0/4",
  "240.0.0.0/4",
];
const DENIED_V6 = ["::/127", "fc00::/7", "fe80::/10", "ff00::/8"];

export interface AddressRules {
  allowCidrs: readonly string[];
  denyCidrs: readonly string[];
}

/** A route of the build's network: nothing leaves to an `unreachable` range; an `open` one inside it does. */
export interface Route {
  kind: "unreachable" | "open";
  cidr: string;
}

/**
 * The routes that enforce the rules. The most specific range wins, and where both name the same, allowing wins.
 * @throws FormationError `invalid` if the operator's list holds something else than IPv4 ranges.
 */
export function routesOf(rules: AddressRules, own = ownAddresses()): Route[] {
  const open = new Set(rules.allowCidrs.map(normaliseCidr));
  const denied = new Set([
    ...DENIED_V4,
    ...rules.denyCidrs.map(normaliseCidr),
    ...own.filter((address) => isIPv4(address)).map((address) => `${address}/32`),
  ]);
  return [
    ...[...denied].filter((cidr) => !open.has(cidr)).map((cidr) => ({ kind: "unreachable" as const, cidr })),
    ...[...open].map((cidr) => ({ kind: "open" as const, cidr })),
  ];
}

/** Whether the rules let a build's registry stand at an address. */
export function isReachable(address: string, rules: AddressRules): boolean {
  if (contains(rules.allowCidrs, address)) return true;
  return (
    !contains([...DENIED_V4, ...DENIED_V6, ...rules.denyCidrs], address) && !ownAddresses().includes(address)
  );
}

function contains(cidrs: readonly string[], address: string): boolean {
  const list = new BlockList();
  for (const cidr of cidrs) {
    const [network = "", bits = ""] = cidr.split("/");
    list.addSubnet(network, Number(bits), network.includes(":") ? "ipv6" : "ipv4");
  }
  return list.check(address, address.includes(":") ? "ipv6" : "ipv4");
}

function ownAddresses(): string[] {
  return Object.values(networkInterfaces()).flatMap((ones) => (ones ?? []).map((one) => one.address));
}

/** An IPv4 range with its host bits cleared, as the kernel's routes want it. */
function normaliseCidr(text: string): string {
  const [address = "", bitsText = "32"] = text.split("/");
  const bits = Number(bitsText);
  if (!isIPv4(address) || !/^\d{1,2}$/.test(bitsText) || bits > 32 || text.split("/").length > 2) {
    throw new FormationError("invalid", `${JSON.stringify(text)} is not an IPv4 range.`, {
      remedy: 'Write ranges as "10.1.0.0/16" or "192.0.2.7/32".',
    });
  }
  const value = address.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);
  const size = 2 ** (32 - bits);
  const network = Math.floor(value / size) * size;
  return `${[24, 16, 8, 0].map((shift) => Math.floor(network / 2 ** shift) % 256).join(".")}/${bits}`;
}
