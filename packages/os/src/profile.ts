// The profile of this process: as root it may use cgroups, accounts and a firewall, as another user it may
// not.

export type Profile = "root" | "user";

/** The profile of the account that this process runs as. */
export function ownProfile(): Profile {
  return process.getuid?.() === 0 ? "root" : "user";
}
