// How a machine ends when nobody prolongs it: its end stands in a file beside its journal, in time since the host's boot, and
// a process that is not the worker's reads it. No file, no leash. Who may write there may end the machine, nobody else.

import { existsSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type ProcessIdentity, readIfThere, sendSignal, uptimeMs, waitFor } from "@formation-mcp/os";
import { type Engine, placeOf } from "./deps.ts";

/** Relative to the directory that a machine's process is started in. */
const LEASH_FILE = "../leash";
/** The guard's pid, the clock tick of its start, and the host's boot. */
const GUARD_FILE = "../guard";
const GUARD_GONE_MS = 5000;

/** The leash of a start that is under way: its end in milliseconds since the boot, null once it was released. */
export interface Leash {
  id: string;
  until: number | null;
}

export function leashFor(id: string, leashMs: number): Leash {
  return { id, until: uptimeMs() + leashMs };
}

/** Whether the time of a leash is over before there is a process. */
export function isOver(leash: Leash | null): boolean {
  return leash?.until != null && leash.until <= uptimeMs();
}

/** Whether the leash of what ran in the directory ended: then that was killed because of it. */
export function hasEnded(runDirectory: string): boolean {
  const until = readIfThere(join(runDirectory, LEASH_FILE));
  return until !== null && Number(until) * 10 <= uptimeMs();
}

/** Puts the next process in the directory on its leash, or on none. */
export function tie(runDirectory: string, leash: Leash | null): void {
  if (leash?.until == null) rmSync(join(runDirectory, LEASH_FILE), { force: true });
  else writeEnd(runDirectory, leash.until);
}

export function prolong(engine: Engine, id: string, leashMs: number): void {
  const until = uptimeMs() + leashMs;
  for (const leash of engine.starting) if (leash.id === id && leash.until !== null) leash.until = until;
  const { runDirectory } = placeOf(engine, id);
  if (existsSync(join(runDirectory, LEASH_FILE))) writeEnd(runDirectory, until);
}

export async function releaseLeash(engine: Engine, id: string): Promise<void> {
  for (const leash of engine.starting) if (leash.id === id) leash.until = null;
  await untie(placeOf(engine, id).runDirectory);
}

/** Takes the leash off the directory's process, or off what is left of it; returns when its guard is gone. */
export async function untie(runDirectory: string): Promise<void> {
  const file = join(runDirectory, GUARD_FILE);
  rmSync(join(runDirectory, LEASH_FILE), { force: true });
  const [pid, start_ticks, boot_id] = (readIfThere(file) ?? "").trim().split(" ");
  if (!pid || !start_ticks || !boot_id) return;
  // It is never told to go: it looks, sees that there is nothing left to guard, and goes.
  const guard: ProcessIdentity = { pid: Number(pid), start_ticks, boot_id };
  const gone = { timeoutMs: GUARD_GONE_MS, everyMs: 10, what: "a machine's guard to go" };
  await waitFor(() => !sendSignal(guard, "SIGUSR1"), gone).catch(() => sendSignal(guard, "SIGKILL"));
  rmSync(file, { force: true });
}

// Not made durable: it means nothing after a reboot. Whoever reads sees the old end or the new one.
function writeEnd(runDirectory: string, until: number): void {
  const file = join(runDirectory, LEASH_FILE);
  writeFileSync(`${file}~`, `${Math.floor(until / 10)}\n`, { mode: 0o600 });
  renameSync(`${file}~`, file);
}

// $1: whom it guards, $2: the tick of its start, so that a later process with its pid is not hit. It counts in hundredths
// of a second, as /proc/uptime does, and looks at least once a second: a sleep of the host counts too. USR1: look now.
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

// The process that is to become the machine starts its own guard, and goes on only when that is there and the time is not
// over: so no moment has a machine without its guard, whoever dies or is frozen when. The guard is nobody's child, of the
// worker's account, in none of the machine's cgroups, with none of its descriptors.
const TIE = `
guard=$1; shift
IFS= read -r stat <"/proc/$$/stat"
tick() { set -f; set -- \${stat##*') '}; set +f; tick=\${20}; }
tick
said=$(/bin/sh -c "$guard" formation-guard $$ "$tick" &)
[ "$said" = ready ] || { echo "its guard cannot be started" >&2; exit 96; }
exec "$@"
`;

/** What stands before a program on the line that is to end with the leash of the directory that it is started in. */
export const TIED: readonly string[] = ["/bin/sh", "-c", TIE, "sh", GUARD];
