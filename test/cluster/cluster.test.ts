// @module-tag root
// @module-tag postgres
// @module-tag nats
// @module-tag bundles

// Several servers and workers on PostgreSQL and NATS act as one system: real processes with credentials, with
// fake engines. Whichever process ends, every accepted operation ends with a true result; programs that can
// not serve say so, and recover without help.

import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { waitFor } from "@formation-mcp/os";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Cluster, PROGRAMS, testCluster } from "../support/cluster.ts";
import { becomeAdmin, newUser, type Person, rest, restData } from "../support/http/people.ts";

let cluster: Cluster;
let admin: Person;
let user: Person;
beforeAll(async () => {
  cluster = await testCluster();
  admin = await becomeAdmin(cluster.url, cluster.bootstrapToken, "ed25519");
  user = await newUser(cluster.url, admin);
});
afterAll(() => cluster?.stop());

type Data = Record<string, unknown>;
const call = (tool: string, parameters: Data, token = user.token) =>
  restData(cluster.url, "POST", `/api/tools/${tool}`, { token, body: { parameters } });

const formfile = (name: string, run: string[] = ["echo built"]) => ({
  from: "busybox",
  name,
  run,
  entrypoint: ["sleep", "1000"],
});

async function ended(first: Data): Promise<Data> {
  const id = first["operation_id"];
  return waitFor(
    async () => {
      const seen = await call("operation_get", { id, wait_seconds: 10 }).catch(() => null);
      return seen?.["done"] === true && seen;
    },
    { timeoutMs: 120_000, everyMs: 200, what: "the operation to end" },
  );
}

const readiness = async (index: number) => {
  const reply = await rest(cluster.servers[index]?.url() ?? "", "GET", "/health/ready");
  return { status: reply.status, text: reply.body };
};

describe("A cluster", () => {
  test("is one server to its clients: both answer, and who signed in at one is known to the other", async () => {
    for (let i = 0; i < 4; i++)
      expect((await rest(cluster.url, "GET", "/api/auth/whoami", { token: user.token })).status).toBe(200);
    for (const share of cluster.balancer.shares()) expect(share).toBeGreaterThan(0);
  });

  test("knows its nodes, and runs what names one of them there", async () => {
    const { nodes } = (await call("node_list", {}, admin.token)) as { nodes: Data[] };
    expect(nodes.map(({ name }) => name).sort()).toEqual(["node-1", "node-2"]);
    for (const node of cluster.nodes) {
      const build = await ended(await call("pack_build", { formfile: formfile(`on-${node.name}`) }));
      expect(build["state"], JSON.stringify(build)).toMatch(/completed|ready/);
      const build_id = String(build["build_id"] ?? (build["record"] as Data)["id"]);
      const before = node.machines().length;
      const name = `vm-${node.name}`;
      const shipped = await call("pack_ship", { build_id, instance_name: name, target_node: node.name });
      expect((await ended(shipped))["state"]).toMatch(/completed|live/);
      expect(node.machines().length).toBe(before + 1);
      await ended(await call("vm_delete", { instance: name, confirm: name }));
    }
  });

  test("empties a node: what it runs is moved to another, or stopped", async () => {
    const [from, to] = cluster.nodes.map(({ name }) => name);
    const node = (path: string, body?: Data) =>
      restData(cluster.url, body ? "POST" : "GET", `/api/nodes/${path}`, {
        token: admin.token,
        ...(body ? { body } : {}),
      });
    const drained = (name = "") =>
      waitFor(async () => (await node(name))["state"] === "drained", {
        timeoutMs: 60_000,
        everyMs: 200,
        what: `${name} to be drained`,
      });
    const build = await ended(await call("pack_build", { formfile: formfile("moved") }));
    const build_id = String(build["build_id"] ?? (build["record"] as Data)["id"]);
    await ended(await call("pack_ship", { build_id, instance_name: "moved", target_node: from }));
    const status = () => call("vm_status", { instance: "moved" });
    expect(await status()).toMatchObject({ state: "running", node: from });
    await node(`${from}/drain`, { instances: "move" });
    await drained(from);
    await waitFor(async () => (await status())["state"] === "running", {
      timeoutMs: 60_000,
      everyMs: 200,
      what: "it to run again",
    });
    expect(await status()).toMatchObject({ node: to });
    await node(`${from}/uncordon`, {});
    await node(`${to}/drain`, { instances: "stop" });
    await drained(to);
    expect(await status()).toMatchObject({ state: "stopped", node: to });
    await node(`${to}/uncordon`, {});
    await ended(await call("vm_delete", { instance: "moved", confirm: "moved" }));
  });

  test("loses no operation with a worker that is killed, and doubles none", async () => {
    const begun = await Promise.all(
      Array.from({ length: 6 }, (_, i) =>
        call("pack_build", { formfile: formfile(`slow-${i}`, [`sleep 1; echo ${i}`]), wait_seconds: 0 }),
      ),
    );
    const [victim] = cluster.nodes;
    await victim?.program().kill();
    await victim?.start();
    for (const operation of await Promise.all(begun.map(ended)))
      expect(operation["state"], JSON.stringify(operation)).toMatch(/completed|ready/);
  });

  test("upgrades a worker with no lost job: told to leave, it finishes or gives back", async () => {
    const begun = await Promise.all(
      Array.from({ length: 4 }, (_, i) =>
        call("pack_build", { formfile: formfile(`upgrade-${i}`, ["sleep 1"]), wait_seconds: 0 }),
      ),
    );
    for (const node of cluster.nodes) {
      expect(await node.program().stop(90_000)).toBe(0);
      await node.start();
    }
    for (const operation of await Promise.all(begun.map(ended)))
      expect(operation["state"], JSON.stringify(operation)).toMatch(/completed|ready/);
  });

  test("goes on without one of its servers", async () => {
    const [first] = cluster.servers;
    await first?.program().kill();
    expect((await call("vm_list", {}))["instances"]).toBeDefined();
    await first?.start();
    expect((await readiness(0)).status).toBe(200);
  });

  const outages: [string, RegExp, () => Promise<void>, () => Promise<void>][] = [
    ["NATS", /"queue":"failed"/, () => cluster.nats.kill(), () => cluster.nats.start()],
    ["PostgreSQL", /"store":"failed"/, () => cluster.postgres.crash(), () => cluster.postgres.start()],
  ];
  test.each(outages)(
    "says that it can't serve while %s is away, and recovers by itself",
    async (_, part, stop, start) => {
      const operation = await call("pack_build", {
        formfile: formfile("before", ["sleep 2"]),
        wait_seconds: 0,
      });
      await stop();
      await waitFor(
        async () => {
          const seen = await readiness(0);
          return seen.status === 503 && part.test(seen.text);
        },
        { timeoutMs: 30_000, everyMs: 200, what: "the server to say what it lacks" },
      );
      // A build stores its context first.
      const parameters = {
        formfile: { ...formfile("meanwhile"), include: ["a"] },
        context_files: { a: "b" },
        wait_seconds: 0,
      };
      const refused = await rest(cluster.url, "POST", "/api/tools/pack_build", {
        token: user.token,
        body: { parameters },
      });
      expect(refused.status, refused.body).toBe(503);
      expect(Number(refused.headers["retry-after"])).toBeGreaterThan(0);
      await start();
      await waitFor(async () => (await readiness(0)).status === 200 && (await readiness(1)).status === 200, {
        timeoutMs: 60_000,
        everyMs: 200,
        what: "the servers to recover",
      });
      expect((await ended(operation))["state"]).toMatch(/completed|ready/);
      const after = await ended(await call("pack_build", { formfile: formfile("after") }));
      expect(after["state"], JSON.stringify(after)).toMatch(/completed|ready/);
      for (const node of cluster.nodes)
        expect(node.program().ended(), node.program().output().slice(-3000)).toBe(false);
    },
  );

  test("gives a worker's role and key no way to what is not a worker's", async () => {
    const password = readFileSync(cluster.postgres.passwordFiles.worker, "utf8").trim();
    const ask = (sql: string) =>
      promisify(execFile)(
        "psql",
        ["-X", "-q", "-v", "ON_ERROR_STOP=1", cluster.postgres.urls.worker, "-c", sql],
        {
          env: { PATH: process.env["PATH"] ?? "", PGPASSWORD: password },
        },
      );
    await expect(ask("SELECT count(*) FROM formation.operations")).resolves.toBeDefined();
    for (const table of ["documents", "counters", "audit"]) {
      await expect(ask(`SELECT * FROM formation_private.${table}`), table).rejects.toThrow(
        /permission denied/,
      );
    }
    for (const sql of [
      "CREATE TABLE formation.mine (x int)",
      "CREATE TEMP TABLE mine (x int)",
      "SELECT lo_create(0)",
      "SELECT lo_from_bytea(0, 'x')",
      "UPDATE formation.operations SET input = '{}'",
    ]) {
      await expect(ask(sql), sql).rejects.toThrow(/permission denied/);
    }
  });

  test("keeps secrets out of logs and arguments", async () => {
    const secrets = [
      readFileSync(cluster.postgres.passwordFiles.server, "utf8").trim(),
      readFileSync(cluster.postgres.passwordFiles.worker, "utf8").trim(),
      readFileSync(join(cluster.root, "server.nk"), "utf8").trim(),
      readFileSync(join(cluster.root, "master.key")).toString("hex"),
    ];
    for (const each of [...cluster.servers, ...cluster.nodes]) {
      const words = readFileSync(`/proc/${each.program().pid}/cmdline`, "latin1");
      for (const secret of secrets) expect(each.program().output() + words).not.toContain(secret);
    }
  });

  test("has an audit log that is whole", async () => {
    const [file = "", ...args] = PROGRAMS.http;
    const env = { ...cluster.serverEnv, FORMATION_STATE_DIR: cluster.servers[0]?.stateDir ?? "" };
    const { stdout } = await promisify(execFile)(file, [...args, "audit", "verify"], { env });
    expect(stdout).toContain("as they were written");
  });
});
