// `bench`: compares us with the bare tools beneath, as ratios in one run. Names given as words run those alone.

import { missedNames, say } from "./report.ts";
import { benchStdio } from "./stdio.ts";

const BENCHES: Record<string, () => Promise<void>> = {
  stdio: benchStdio,
};

const wanted = process.argv.slice(2);
for (const [name, bench] of Object.entries(BENCHES)) {
  if (wanted.length > 0 && !wanted.includes(name)) continue;
  say(`bench: ${name}`);
  await bench();
}
const missed = missedNames();
if (missed.length > 0) say(`missed: ${missed.join("; ")}`);
