// Which addresses a guest with internet access may reach, as rules of the host's packet filter. See
// iptables-extensions(8), conntrack and addrtype.

import { readFileSync } from "node:fs";
import { isIPv6 } from "node:net";
import { PRIVATE_IPV4, PRIVATE_IPV6 } from "@formation-mcp/base";
import { FormationError } from "@formation-mcp/contract";

/** The rules of the internet chain, in order, as iptables-restore(8) reads them. Pure. */
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
    ...(family === 4 ? PRIVATE_IPV4 : PRIVATE_IPV6).map((cidr) => reject(`-d ${cidr}`)),
  ];
}

/** The addresses in a resolv.conf(5); none if it cannot be read. */
export function readResolvers(path: string): string[] {
  try {
    return [...readFileSync(path, "utf8").matchAll(/^\s*nameserver\s+([0-9A-Fa-f.:]+)\s*$/gm)].map(
      (match) => match[1] ?? "",
    );
  } catch {
    return [];
  }
}

/** @throws FormationError `invalid` */
export function checkCidr(cidr: string): void {
  if (/^[0-9]{1,3}(\.[0-9]{1,3}){3}(\/([0-9]|[12][0-9]|3[0-2]))?$/.test(cidr)) return;
  const [address = "", length = "128"] = cidr.split("/");
  if (isIPv6(address) && /^[0-9]{1,3}$/.test(length) && Number(length) <= 128) return;
  throw new FormationError("invalid", `${JSON.stringify(cidr)} is no network in CIDR notation.`, {
    remedy: "Write it like 203.0.113.0/24 or 2001:db8::/32.",
  });
}
