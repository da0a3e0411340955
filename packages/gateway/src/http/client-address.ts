// The client's address: the socket's, or the one that a proxy reports, if the operator trusts that proxy. The
// X-Forwarded-For header of anyone else is ignored.

import { BlockList, isIP } from "node:net";

/**
 * The plain form of an address: an IPv4 address that comes over an IPv6 socket (`::ffff:…`) as IPv4, no zone.
 */
export function plainAddress(address: string | undefined): string {
  if (address === undefined) return "unknown";
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address);
  return mapped?.[1] ?? address.replace(/%.*$/, "");
}

/** The key of an address in rate limits: of IPv6 the /64, because one customer has all of it. */
export function addressKey(address: string): string {
  if (isIP(address) !== 6) return address;
  const [head = "", tail] = address.toLowerCase().split("::");
  const left = head === "" ? [] : head.split(":");
  const right = tail === undefined || tail === "" ? [] : tail.split(":");
  const words =
    tail === undefined ? left : [...left, ...Array(8 - left.length - right.length).fill("0"), ...right];
  const first = words.slice(0, 4).map((word) => word.replace(/^0+(?=.)/, ""));
  return `${first.join(":")}::/64`;
}

export interface Proxies {
  /** Whether a peer is a proxy that the operator trusts. */
  trusted(peer: string): boolean;
  /** The client behind the peer. */
  clientOf(peer: string, forwardedFor: string | null): string;
}

/** @param cidrs networks of trusted proxies, already validated: `10.0.0.0/8`, `fd00::/8`. */
export function trustProxies(cidrs: readonly string[]): Proxies {
  const list = new BlockList();
  for (const cidr of cidrs) {
    const [network = "", prefix = ""] = cidr.split("/");
    list.addSubnet(network, Number(prefix), isIP(network) === 6 ? "ipv6" : "ipv4");
  }
  const trusted = (peer: string) => {
    const kind = cidrs.length === 0 ? 0 : isIP(peer);
    return kind !== 0 && list.check(peer, kind === 6 ? "ipv6" : "ipv4");
  };
  return {
    trusted,
    clientOf(peer, forwardedFor) {
      if (forwardedFor === null || !trusted(peer)) return peer;
      // Each proxy appends the peer that it saw: from the right, the first that is not a trusted proxy is the
      // client.
      let client = peer;
      for (const word of forwardedFor.slice(-2048).split(",").reverse()) {
        const reported = plainAddress(
          word
            .trim()
            .replace(/^\[(.*)\](:\d+)?$/, "$1")
            .replace(/^(\d+(?:\.\d+){3}):\d+$/, "$1"),
        );
        if (isIP(reported) === 0) break;
        client = reported;
        if (!trusted(reported)) break;
      }
      return client;
    },
  };
}
