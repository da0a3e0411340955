// The guard: a shell process of the host that enforces a machine's leash, and the shell line that starts a
// program together with its guard. Both are independent of the worker, so that they work when the worker is
// dead or frozen.

import { GUARD_FILE, LEASH_FILE } from "./files.ts";

// $1 is the pid of the process to guard and $2 the clock tick of its start: a later process with the same pid
// is not killed. The unit of time is a hundredth of a second, as in /proc/uptime, which also counts while the
// host sleeps. The guard checks at least once a second, and at once on SIGUSR1.
const GUARD = `
trap "" HUP INT QUIT TERM
trap 'kill -KILL "$sleeper"' USR1
set -f
pid=$1 born=$2 sleeper= said=
field() { IFS= read -r stat <"/proc/$1/stat" || return 1; set -- \${stat##*') '}; state=$1 ticks=\${20}; }
lives() { field "$pid" && [ "$state" != Z ] && [ "$state" != X ] && [ "$ticks" = "$born" ]; }
say() { [ "$said" ] || { said=1; echo ready; exec >/dev/null; }; }
exec </dev/null 2>/dev/null
echo -1000 >/proc/self/oom_score_adj
read -r boot </proc/sys/kernel/random/boot_id
field $$ && echo "$$ $ticks $boot" >${GUARD_FILE}
while lives; do
  read -r until <${LEASH_FILE} || { say; exit; }
  read -r up rest </proc/uptime
  left=$((until - \${up%.*}\${up#*.}))
  if [ "$left" -gt 0 ]; then say; else kill -KILL "$pid"; left=2; fi
  case $left in ?) time=0.0$left;; ??) time=0.$left;; *) time=1;; esac
  sleep $time & sleeper=$!
  wait $sleeper
  sleeper=
done
`;

// The process that becomes the machine starts its own guard first. It continues only when the guard runs and
// the leash has not ended. So a machine is never without its guard, whichever process dies or freezes at
// whichever moment. The guard is orphaned, runs as the worker's account, and has none of the machine's
// cgroups or file descriptors.
const START_WITH_GUARD = `
guard=$1; shift
IFS= read -r stat <"/proc/$$/stat"
tick() { set -f; set -- \${stat##*') '}; set +f; tick=\${20}; }
tick
said=$(/bin/sh -c "$guard" formation-guard $$ "$tick" &)
[ "$said" = ready ] || { echo "its guard cannot be started" >&2; exit 96; }
exec "$@"
`;

/**
 * Arguments to put before a program's own: the program then ends with the leash of the directory that it is
 * started in.
 */
export const GUARD_PREFIX: readonly string[] = ["/bin/sh", "-c", START_WITH_GUARD, "sh", GUARD];
