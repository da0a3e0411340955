// Which addresses belong to the public internet. An address that is not known to be public is not.

import { BlockList, isIP } from "node:net";
import { GLOBAL_IPV6, SPECIAL_IPV4, SPECIAL_IPV6 } from "@formation-mcp/base";

const special4 = blockList(SPECIAL_IPV4, "ipv4");
const special6 = blockList(SPECIAL_IPV6, "ipv6");
const global6 = blockList([GLOBAL_IPV6], "ipv6");

/**
 * Whether an address is one of the public internet. IPv4 inside IPv6 (`::ffff:`, NAT64, 6to4, Teredo) never
 * is: it names a machine by a way around.
 */
export function isPublicAddress(address: string): boolean {
  const family = isIP(address);
  if (family === 4) return !special4.check(address, "ipv4");
  if (family !== 6 || address.includes("%")) return false;
  return global6.check(address, "ipv6") && !special6.check(address, "ipv6");
}

function blockList(networks: readonly string[], family: "ipv4" | "ipv6"): BlockList {
  const list = new BlockList();
  for (const network of networks) {
    const [address = "", bits] = network.split("/");
    list.addSubnet(address, Number(bits), family);
  }
  return list;
}
