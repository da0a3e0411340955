// How a process gives up its privileges before it becomes QEMU: it enters its cgroups, then changes to its
// account and drops all capabilities. See setpriv(1).

/** Writes the shell's pid into the first $1 files that follow, then runs the rest. */
const ENTER_CGROUPS =
  'n=$1; shift; while [ "$n" -gt 0 ]; do echo $$ >"$1" || exit 97; shift; n=$((n-1)); done; exec "$@"';

/**
 * Arguments to put before QEMU's own.
 * @param uid The account to run as; null: the worker's own, without a way to gain privileges.
 * @param groups The `cgroup.procs` files of its cgroups.
 * @param gid The one supplementary group that it keeps; null: none.
 */
export function confinement(uid: number | null, groups: readonly string[], gid: number | null): string[] {
  const enter =
    groups.length === 0 ? [] : ["/bin/sh", "-c", ENTER_CGROUPS, "sh", String(groups.length), ...groups];
  if (uid === null) return [...enter, "setpriv", "--no-new-privs", "--"];
  const account = ["--reuid", String(uid), "--regid", String(uid)];
  const others = gid === null || gid === 0 ? ["--clear-groups"] : ["--groups", String(gid)];
  const powers = ["--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"];
  return [...enter, "setpriv", ...account, ...others, ...powers, "--"];
}
