// How a process is deprived before it becomes QEMU: first it enters its cgroups, then it gives up its account and every
// privilege, for good.

const ENTER =
  'n=$1; shift; while [ "$n" -gt 0 ]; do echo $$ >"$1" || exit 97; shift; n=$((n-1)); done; exec "$@"';

/**
 * What stands before QEMU on the line. `groups` are files that take the process's pid; `gid` is the one group that it
 * keeps, or null. With `uid` null the process stays what we are, but can never become more.
 */
export function confinement(uid: number | null, groups: readonly string[], gid: number | null): string[] {
  const enter = groups.length === 0 ? [] : ["/bin/sh", "-c", ENTER, "sh", String(groups.length), ...groups];
  if (uid === null) return [...enter, "setpriv", "--no-new-privs", "--"];
  const account = ["--reuid", String(uid), "--regid", String(uid)];
  const others = gid === null || gid === 0 ? ["--clear-groups"] : ["--groups", String(gid)];
  const powers = ["--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"];
  return [...enter, "setpriv", ...account, ...others, ...powers, "--"];
}
