// Which profile this process has: root may use cgroups, accounts and a firewall; a user may not.

export type Profile = "root" | "user";

/** The profile of the account that this process runs as. */
export function ownProfile(): Profile {
  return process.getuid?.() === 0 ? "root" : "user";
}
