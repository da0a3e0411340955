// @module-tag buildah
// @module-tag qemu
// @module-tag bundles

// Bad input with the real engines: a clear error with a remedy, a failed operation, and nothing left over.

import type { AddressInfo } from "node:net";
import { createServer, type Server } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { expectNothingLeft, type Leftovers, leftovers } from "../support/leftovers.ts";
import {
  ended,
  must,
  type Peer,
  type Structured,
  sdkV2,
  type temporaryState,
  temporaryStateWithKernel,
} from "../support/server.ts";

const SERVE = ["/bin/httpd", "-f", "-p", "8080", "-h", "/"];
const small = { vcpus: 1, memory_mb: 192, disk_gb: 1 };

let state: ReturnType<typeof temporaryState>;
let peer: Peer;
let before: Leftovers;

beforeAll(async () => {
  state = await temporaryStateWithKernel();
  before = leftovers(state.dir);
  peer = await sdkV2(
    {
      stateDir: state.dir,
      env: {
        FORMATION_BUILD_SECONDS: "15",
        FORMATION_BUILD_DISK_MB: "256",
        FORMATION_BUILD_MEMORY_MB: "256",
        FORMATION_BOOT_SECONDS: "40",
      },
    },
    "modern",
  );
});
afterAll(async () => {
  await peer?.close();
  await state.close();
});

/** Calls a tool, follows its operation to the end, and returns the error that the caller gets. */
async function failure(tool: string, input: Structured): Promise<string> {
  const first = await peer.call(tool, { ...input, wait_seconds: 40 });
  if (first.isError) return first.text;
  const last = await ended(peer, first.structured);
  expect(last["state"], JSON.stringify(last)).toBe("failed");
  return JSON.stringify(last["error"]);
}

async function newestOperation(): Promise<Structured> {
  const { operations } = await must(peer, "operation_list", { limit: 1 });
  return (operations as Structured[])[0] ?? {};
}

describe("A build that cannot succeed fails with a remedy and leaves nothing:", () => {
  const builds: [string, Structured, RegExp][] = [
    ["an unknown base image", { from: "localhost/no-such-base", entrypoint: SERVE }, /no-such-base/],
    [
      "a RUN line that fails",
      { from: "busybox", run: ["echo before; exit 7"], entrypoint: SERVE },
      /run 1\/1[\s\S]*7/,
    ],
    [
      "a RUN line that forks without end",
      // The line ends when `sleep` finds no process left, with the bomb alive; else the time limit ends it.
      {
        from: "busybox",
        run: ["f() { f | f & }; f; while sleep 0.1; do :; done; exit 1"],
        entrypoint: SERVE,
      },
      /processes|did not end within/i,
    ],
    [
      "a RUN line that fills the disk",
      { from: "busybox", run: ["dd if=/dev/zero of=/big bs=1M count=2048"], entrypoint: SERVE },
      /disk/i,
    ],
    [
      "a RUN line that never ends",
      { from: "busybox", run: ["sleep 100000"], entrypoint: SERVE },
      /15 s|time/i,
    ],
    [
      "a RUN line that takes too much memory",
      { from: "busybox", run: ["dd if=/dev/zero of=/dev/null bs=400M count=1"], entrypoint: SERVE },
      /memory/i,
    ],
  ];
  test.each(builds)("%s", async (_, formfile, says) => {
    const text = await failure("pack_build", { formfile: { name: "bad", resources: small, ...formfile } });
    expect(text).toMatch(says);
    expect((await newestOperation())["state"]).toBe("failed");
    await expectNothingLeft(state.dir, before);
  });
});

describe("A context that cannot be taken is refused before anything is recorded:", () => {
  const formfile = { from: "busybox", name: "bad", include: ["a.txt"], entrypoint: SERVE };
  const contexts: [string, Structured, RegExp][] = [
    ["a missing file", { formfile, context_files: {} }, /a\.txt/],
    [
      "a path that leaves the context",
      { formfile, context_files: { "../a.txt": "x", "a.txt": "x" } },
      /\.\./,
    ],
    ["an absolute path", { formfile, context_files: { "/etc/passwd": "x", "a.txt": "x" } }, /passwd/],
    [
      "more than 2 MiB inline",
      { formfile, context_files: { "a.txt": "x".repeat(2 * 1024 * 1024 + 1) } },
      /2097152/,
    ],
    ["a directory that is not allowed", { formfile, context_dir: "/etc" }, /allow-dir/],
    [
      "a formfile with several mistakes",
      { formfile: "from: busybox\nname: Bad Name\nexpos: [80]\n" },
      /line 2[\s\S]*expose/,
    ],
  ];
  test.each(contexts)("%s", async (_, input, says) => {
    const { operations } = await must(peer, "operation_list", {});
    const answer = await peer.call("pack_build", input);
    expect(answer.isError).toBe(true);
    expect(answer.text).toMatch(says);
    expect((await must(peer, "operation_list", {}))["operations"]).toEqual(operations);
  });
});

describe("A ship that cannot succeed fails with a remedy and leaves no machine:", () => {
  async function built(formfile: Structured): Promise<string> {
    const build = await ended(
      peer,
      await must(peer, "pack_build", {
        formfile: { from: "busybox", name: "bad", resources: small, ...formfile },
      }),
    );
    return String(build["build_id"] ?? (build["record"] as Structured)["id"]);
  }
  const ships: [string, Structured, Structured, RegExp][] = [
    [
      "an entrypoint that does not exist",
      { entrypoint: ["/no/such/program"], expose: [8080] },
      {},
      /no\/such\/program|127/,
    ],
    [
      "an entrypoint that ends at once",
      { entrypoint: "echo goodbye; exit 3", expose: [8080] },
      {},
      /3[\s\S]*goodbye/,
    ],
    [
      "an entrypoint that listens on loopback only",
      { entrypoint: ["/bin/httpd", "-f", "-p", "127.0.0.1:8080"], expose: [8080] },
      {},
      /0\.0\.0\.0/,
    ],
    [
      "too little memory to boot",
      { entrypoint: SERVE, expose: [8080], resources: { ...small, memory_mb: 64 } },
      {},
      /memory_mb/,
    ],
  ];
  test.each(ships)("%s", async (_, formfile, config, says) => {
    const build_id = await built(formfile);
    const text = await failure("pack_ship", { build_id, instance_name: "bad", ...config });
    expect(text).toMatch(says);
    const status = await must(peer, "vm_status", { instance: "bad" });
    expect(status["state"]).toBe("failed");
    await ended(peer, await must(peer, "vm_delete", { instance: "bad", confirm: "bad" }));
    await expectNothingLeft(state.dir, before);
  });

  test("a fixed port that somebody else holds", async () => {
    const holder: Server = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => holder.once("listening", resolve));
    const { port } = holder.address() as AddressInfo;
    try {
      const build_id = await built({ entrypoint: SERVE, expose: [8080] });
      const text = await failure("pack_ship", {
        build_id,
        instance_name: "taken",
        vm_config: { network: { host_ports: { "8080": port } } },
      });
      expect(text).toContain(String(port));
      await ended(peer, await must(peer, "vm_delete", { instance: "taken", confirm: "taken" }));
      await expectNothingLeft(state.dir, before);
    } finally {
      holder.close();
    }
  });
});

describe("A guest that misbehaves while it runs is held in its bounds:", () => {
  test("one that ignores TERM is stopped all the same, one that floods its log keeps its log bounded", async () => {
    const formfile = {
      from: "busybox",
      name: "stubborn",
      resources: small,
      expose: [8080],
      // 2000 lines a second are far more than a call returns, and leave the guest mostly idle.
      entrypoint: `trap '' TERM; (while :; do yes ${"flood ".repeat(40)} | head -n 2000; sleep 1; done) & httpd -f -p 8080 -h / & while :; do sleep 1; done`,
    };
    const build = await ended(peer, await must(peer, "pack_build", { formfile }));
    const build_id = String(build["build_id"] ?? (build["record"] as Structured)["id"]);
    await ended(peer, await must(peer, "pack_ship", { build_id, instance_name: "stubborn" }));
    const logs = await must(peer, "vm_logs", { instance: "stubborn", tail: 1000 });
    expect(String(logs["log"]).length).toBeLessThan(21_000);
    const stopped = await ended(
      peer,
      await must(peer, "vm_control", { instance: "stubborn", action: "stop" }),
    );
    expect(stopped["done"]).toBe(true);
    expect((await must(peer, "vm_status", { instance: "stubborn" }))["state"]).toBe("stopped");
    await ended(peer, await must(peer, "vm_delete", { instance: "stubborn", confirm: "stubborn" }));
    await expectNothingLeft(state.dir, before);
  });
});
