// Networks that are not the public internet, in CIDR notation, as data: what builds and guests may not
// reach, and what an address from a stranger may not lead to. Matching is the caller's (`node:net`, the
// packet filter).

/**
 * IPv4 networks that are private to a host, a site or a provider (RFC 6890), and multicast and reserved
 * ones. The documentation, benchmarking and anycast ranges of {@link SPECIAL_IPV4} are not among them: some
 * sites use those for mirrors, so builds and guests may reach them.
 */
export const PRIVATE_IPV4: readonly string[] = [
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

/**
 * IPv6 networks that are unique local, link-local or multicast, and those whose addresses hold an IPv4
 * address, which would be a way around {@link PRIVATE_IPV4}: unspecified, loopback and compatible, mapped
 * (RFC 4291), translated (RFC 6052, RFC 8215) and 6to4 (RFC 3056).
 */
export const PRIVATE_IPV6: readonly string[] = [
  "::/96",
  "::ffff:0:0/96",
  "64:ff9b::/96",
  "64:ff9b:1::/48",
  "2002::/16",
  "fc00::/7",
  "fe80::/10",
  "ff00::/8",
];

/**
 * IPv4 networks that are not globally reachable or have a special purpose (IANA special-purpose address
 * registry): no address of a host on the public internet is in one. For URLs that come from a stranger,
 * where no exception is needed.
 */
export const SPECIAL_IPV4: readonly string[] = [
  ...PRIVATE_IPV4,
  "192.0.0.0/24",
  "192.0.2.0/24",
  "192.31.196.0/24",
  "192.52.193.0/24",
  "192.88.99.0/24",
  "192.175.48.0/24",
  "198.18.0.0/15",
  "198.51.100.0/24",
  "203.0.113.0/24",
];

/** The IPv6 range that global unicast addresses are assigned from. Addresses outside of it are not public. */
export const GLOBAL_IPV6 = "2000::/3";

/**
 * Networks inside {@link GLOBAL_IPV6} with a special purpose; Teredo (2001::/32) and 6to4 hold IPv4
 * addresses.
 */
export const SPECIAL_IPV6: readonly string[] = [
  "2001::/23",
  "2001:db8::/32",
  "2002::/16",
  "2620:4f:8000::/48",
  "3fff::/20",
];
