// Decides which addresses a build may not reach: the host's own, and loopback, private, shared, link-local
// and multicast ranges (RFC 6890), unless the operator allows them. The documentation ranges stay open; tests
// and mirrors may use them.

import { BlockList, isIPv4 } from "node:net";
import { networkInterfaces } from "node:os";
import { PRIVATE_IPV4, PRIVATE_IPV6 } from "@formation-mcp/base";
import { FormationError } from "@formation-mcp/contract";

export interface AddressRules {
  allowCidrs: readonly string[];
  denyCidrs: readonly string[];
}

/**
 * The closed IPv4 ranges: the denied ranges minus the allowed ones. A denied range inside an allowed one
 * stays closed, such as the host's own address in an allowed network; an allowed range that is exactly the
 * same opens it.
 * @throws FormationError `invalid` if the operator's lists hold anything other than IPv4 ranges.
 */
export function closedRanges(rules: AddressRules, own = ownAddresses()): string[] {
  const open = rules.allowCidrs.map(parseCidr);
  const denied = [
    ...[...PRIVATE_IPV4, ...rules.denyCidrs].map(parseCidr),
    ...own.filter((address) => isIPv4(address)).map((address) => parseCidr(`${address}/32`)),
  ];
  const closed = denied.flatMap((range) => {
    const inside = open.filter((one) => one.bits >= range.bits && covers(range, one));
    return inside.reduce((left, one) => left.flatMap((part) => subtract(part, one)), [range]);
  });
  return [...new Set(closed.map(formatCidr))];
}

/** Whether the rules allow pulling from a registry at this address. */
export function isReachable(address: string, rules: AddressRules): boolean {
  if (contains(rules.allowCidrs, address)) return true;
  return (
    !contains([...PRIVATE_IPV4, ...PRIVATE_IPV6, ...rules.denyCidrs], address) &&
    !ownAddresses().includes(address)
  );
}

function contains(cidrs: readonly string[], address: string): boolean {
  const family = (text: string) => (text.includes(":") ? "ipv6" : "ipv4");
  const list = new BlockList();
  // Compares within one family only: BlockList treats an IPv4 address like the IPv6 address it maps to.
  for (const cidr of cidrs.filter((one) => family(one) === family(address))) {
    const [network = "", bits = ""] = cidr.split("/");
    list.addSubnet(network, Number(bits), family(network));
  }
  return list.check(address, family(address));
}

function ownAddresses(): string[] {
  return Object.values(networkInterfaces()).flatMap((ones) => (ones ?? []).map((one) => one.address));
}

interface Range {
  /** The first address as a number, with the host bits cleared. */
  first: number;
  bits: number;
}

function parseCidr(text: string): Range {
  const [address = "", bitsText = "32"] = text.split("/");
  const bits = Number(bitsText);
  if (!isIPv4(address) || !/^\d{1,2}$/.test(bitsText) || bits > 32 || text.split("/").length > 2) {
    throw new FormationError("invalid", `${JSON.stringify(text)} is not an IPv4 range.`, {
      remedy: 'Write ranges as "10.1.0.0/16" or "192.0.2.7/32".',
    });
  }
  const value = address.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);
  const size = 2 ** (32 - bits);
  return { first: Math.floor(value / size) * size, bits };
}

function formatCidr({ first, bits }: Range): string {
  return `${[24, 16, 8, 0].map((shift) => Math.floor(first / 2 ** shift) % 256).join(".")}/${bits}`;
}

function covers(outer: Range, inner: Range): boolean {
  return inner.first >= outer.first && inner.first < outer.first + 2 ** (32 - outer.bits);
}

/** Subtracts a range from another: the result is the other halves at each step down to the hole. */
function subtract(range: Range, hole: Range): Range[] {
  if (hole.bits < range.bits || !covers(range, hole)) return [range];
  const left: Range[] = [];
  for (let at = range; at.bits < hole.bits; ) {
    const bits = at.bits + 1;
    const halves = [at.first, at.first + 2 ** (32 - bits)].map((first) => ({ first, bits }));
    const [inside, beside] = covers(halves[0] as Range, hole) ? halves : halves.reverse();
    left.push(beside as Range);
    at = inside as Range;
  }
  return left;
}
