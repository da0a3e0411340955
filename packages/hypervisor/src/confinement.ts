// How a process is deprived before it becomes QEMU: first it enters its cgroups, then it gives up its account and every
// privilege, for good.

/** What stands before QEMU on the line: into the cgroups, then out of every privilege. */
export function confinement(uid: number | null, groups: readonly string[]): string[] {
  const enter =
    groups.length === 0
      ? []
      : [
          "/bin/sh",
          "-c",
          'n=$1; shift; while [ "$n" -gt 0 ]; do echo $$ >"$1" || exit 97; shift; n=$((n-1)); done; exec "$@"',
        ].concat("sh", String(groups.length), groups);
  const drop =
    uid !== null
      ? [
          "setpriv",
          "--reuid",
          `${uid}`,
          "--regid",
          `${uid}`,
          "--clear-groups",
          "--no-new-privs",
          "--inh-caps=-all",
          "--bounding-set=-all",
          "--",
        ]
      : ["setpriv", "--no-new-privs", "--"];
  return [...enter, ...drop];
}
