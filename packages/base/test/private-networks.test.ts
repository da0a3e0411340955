// The lists of networks: each entry is a network, and known addresses fall where they belong.

import { BlockList, isIP } from "node:net";
import { GLOBAL_IPV6, PRIVATE_IPV4, PRIVATE_IPV6, SPECIAL_IPV4, SPECIAL_IPV6 } from "@formation-mcp/base";
import { describe, expect, it } from "vitest";

type Family = "ipv4" | "ipv6";

function matcher(networks: readonly string[], family: Family): (address: string) => boolean {
  const list = new BlockList();
  for (const network of networks) {
    const [address = "", bits] = network.split("/");
    list.addSubnet(address, Number(bits), family);
  }
  return (address) => list.check(address, family);
}

const LISTS: [name: string, networks: readonly string[], family: Family][] = [
  ["PRIVATE_IPV4", PRIVATE_IPV4, "ipv4"],
  ["SPECIAL_IPV4", SPECIAL_IPV4, "ipv4"],
  ["PRIVATE_IPV6", PRIVATE_IPV6, "ipv6"],
  ["SPECIAL_IPV6", SPECIAL_IPV6, "ipv6"],
];

describe("the lists of networks", () => {
  it.each(LISTS)("%s names each network once, with no bits beyond its length", (_, networks, family) => {
    expect(new Set(networks).size).toBe(networks.length);
    for (const network of networks) {
      const [address = "", bits] = network.split("/");
      expect(isIP(address)).toBe(family === "ipv4" ? 4 : 6);
      const rest = networks.filter((other) => other !== network);
      const own = matcher([network], family);
      expect(own(address)).toBe(true);
      // Its first address is the address written: the one before it is outside.
      if (family === "ipv4") {
        const value = address.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);
        expect(value % 2 ** (32 - Number(bits))).toBe(0);
        expect(matcher(rest, family)(address)).toBe(false);
      }
    }
  });

  it.each([
    ["127.0.0.1", true],
    ["10.255.255.255", true],
    ["172.15.255.255", false],
    ["172.16.0.0", true],
    ["172.32.0.0", false],
    ["192.168.1.1", true],
    ["100.64.0.1", true],
    ["169.254.169.254", true],
    ["0.0.0.0", true],
    ["224.0.0.251", true],
    ["255.255.255.255", true],
    ["1.1.1.1", false],
    ["198.51.100.7", false],
    ["223.255.255.255", false],
  ])("%s is private: %s", (address, isPrivate) => {
    expect(matcher(PRIVATE_IPV4, "ipv4")(address)).toBe(isPrivate);
    if (isPrivate) expect(matcher(SPECIAL_IPV4, "ipv4")(address)).toBe(true);
  });

  it.each([
    ["::1", true],
    ["::", true],
    ["::7f00:1", true],
    ["::ffff:a00:1", true],
    ["64:ff9b::a00:1", true],
    ["64:ff9b:1::a00:1", true],
    ["2002:a00:1::1", true],
    ["fd00::1", true],
    ["fe80::1", true],
    ["ff02::1", true],
    ["2606:4700::1111", false],
    ["2001:db8::1", false],
  ])("%s is private: %s", (address, isPrivate) => {
    expect(matcher(PRIVATE_IPV6, "ipv6")(address)).toBe(isPrivate);
  });

  it("a public address of IPv6 is in the global network and in none of special purpose", () => {
    const isPublic = (address: string) =>
      matcher([GLOBAL_IPV6], "ipv6")(address) && !matcher(SPECIAL_IPV6, "ipv6")(address);
    expect(isPublic("2606:4700::1111")).toBe(true);
    for (const address of ["2001::1", "2001:db8::1", "2002:a00:1::1", "3fff::1", "fd00::1", "::1"])
      expect(isPublic(address)).toBe(false);
  });
});
