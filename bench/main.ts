// `bench`: compares this project with the tools below it, as ratios within one run. Names given as arguments
// run only those comparisons.

import { header } from "./machine.ts";
import { missedNames, say } from "./report.ts";
import { Scope } from "./scope.ts";

const BENCHES: Record<string, { what: string; run: () => Promise<(scope: Scope) => Promise<void>> }> = {
  stdio: {
    what: "stdio server: spawn → tools/list",
    run: () => import("./stdio.ts").then((module) => module.benchStdio),
  },
  serve: {
    what: "HTTP server: authenticated vm_list at 32 connections",
    run: () => import("./serve.ts").then((module) => module.benchServe),
  },
  store: {
    what: "operations: create, list and cleanup at 1 k, 100 k and 1 M",
    run: () => import("./store.ts").then((module) => module.benchStore),
  },
  postgres: {
    what: "operations on PostgreSQL: create, list and claim at 10 k and 1 M",
    run: () => import("./postgres.ts").then((module) => module.benchPostgres),
  },
  queue: {
    what: "NATS and PostgreSQL: publish → claimed, and jobs/s of 1, 2 and 4 workers",
    run: () => import("./queue.ts").then((module) => module.benchQueue),
  },
  fleet: {
    what: "what 1,000 nodes ask of PostgreSQL and NATS",
    run: () => import("./fleet.ts").then((module) => module.benchFleet),
  },
  build: {
    what: "builds, cold and cached, against buildah + mke2fs",
    run: () => import("./build.ts").then((module) => module.benchBuild),
  },
  instance: {
    what: "making an instance of 1 GB and of 10 GB",
    run: () => import("./instance.ts").then((module) => module.benchInstance),
  },
  ship: {
    what: "pack_ship → first HTTP 200 against bare QEMU",
    run: () => import("./ship.ts").then((module) => module.benchShip),
  },
  artifacts: {
    what: "artifacts in NATS against the object store's own client",
    run: () => import("./artifacts.ts").then((module) => module.benchArtifacts),
  },
  memory: {
    what: "memory of the worker, and of an idle VM beyond bare QEMU",
    run: () => import("./memory.ts").then((module) => module.benchMemory),
  },
};

const HELP = `bench [NAME…]: what we cost, as ratios to the bare tools that do the same work in the same run.

${Object.entries(BENCHES)
  .map(([name, { what }]) => `  ${name.padEnd(10)} ${what}`)
  .join("\n")}

Without a name all of them run: about ten minutes on two cores without KVM. Reading the lines: bench/README.md.
`;

async function main(words: string[]): Promise<number> {
  if (words.includes("--help") || words.includes("-h")) {
    process.stdout.write(HELP);
    return 0;
  }
  const unknown = words.filter((word) => !Object.hasOwn(BENCHES, word));
  if (unknown.length > 0) {
    process.stderr.write(`bench: there is no comparison ${unknown.join(", ")}.\n\n${HELP}`);
    return 2;
  }
  process.stdout.write(`${await header()}\n`);
  const failed: string[] = [];
  for (const [name, { what, run }] of Object.entries(BENCHES)) {
    if (words.length > 0 && !words.includes(name)) continue;
    const began = performance.now();
    say(`${name}: ${what}`);
    const bench = await run();
    const scope = new Scope();
    const interrupted = () => void scope.close().then(() => process.exit(130));
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, interrupted);
    try {
      await bench(scope);
    } catch (error) {
      // An interrupt ends the process after everything is cleaned up, without further output.
      if (scope.signal.aborted) await new Promise(() => {});
      failed.push(name);
      process.stderr.write(`${name} failed: ${error instanceof Error ? error.stack : String(error)}\n`);
    } finally {
      await scope.close();
      for (const signal of ["SIGINT", "SIGTERM"] as const) process.off(signal, interrupted);
    }
    say(`${name}: done in ${Math.round((performance.now() - began) / 1000)} s`);
  }
  const missed = missedNames();
  const last = [
    ...(missed.length > 0 ? [`missed: ${missed.join("; ")}`] : []),
    ...(failed.length > 0 ? [`could not be measured: ${failed.join("; ")}`] : []),
  ];
  process.stdout.write(`${last.length > 0 ? last.join("\n") : "every goal was held"}\n`);
  return failed.length > 0 ? 1 : 0;
}

process.exitCode = await main(process.argv.slice(2));
