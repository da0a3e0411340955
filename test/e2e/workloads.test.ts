// @module-tag buildah
// @module-tag qemu
// @module-tag bundles

// Workloads other than busybox: Debian from a registry, packages installed by RUN, a non-root USER and a
// WORKDIR, a real database.

import { debianBase, debianRegistry } from "@formation-mcp/builder/testing/debian";
import type { Registry } from "@formation-mcp/builder/testing/registry";
import { waitFor } from "@formation-mcp/os";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  ended,
  must,
  type Peer,
  type Structured,
  sdkV2,
  type temporaryState,
  temporaryStateWithKernel,
} from "../support/server.ts";

let state: ReturnType<typeof temporaryState>;
let registry: Registry;
let peer: Peer;

beforeAll(async () => {
  state = await temporaryStateWithKernel();
  registry = await debianRegistry();
  await registry.push("team/python:3", await debianBase(), [
    "--user",
    "www-data",
    "--workingdir",
    "/srv/app",
    "--env",
    "FROM_BASE=kept",
  ]);
  peer = await sdkV2(
    { stateDir: state.dir, env: { FORMATION_PLAIN_HTTP_REGISTRIES: registry.host } },
    "modern",
  );
}, 400_000);
afterAll(async () => {
  await peer?.close();
  await registry?.stop();
  await state.close();
});

/** Builds and ships a formfile, passes its status to the check, and deletes it. */
async function live(formfile: Structured, files: Structured, check: (status: Structured) => Promise<void>) {
  const name = String(formfile["name"]);
  const build = await ended(
    peer,
    await must(peer, "pack_build", { formfile, context_files: files, wait_seconds: 45 }),
  );
  const { state: built, log } = await must(peer, "build_get", {
    build_id: build["build_id"] ?? (build["record"] as Structured)["id"],
  });
  expect(built, String(log)).toBe("ready");
  const build_id = build["build_id"] ?? (build["record"] as Structured)["id"];
  await ended(peer, await must(peer, "pack_ship", { build_id, instance_name: name, wait_seconds: 45 }));
  const status = await must(peer, "vm_status", { instance: name });
  expect(status["state"], JSON.stringify(status)).toBe("running");
  await check(status);
  await ended(peer, await must(peer, "vm_delete", { instance: name, confirm: name }));
}

async function query(url: URL, text: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({
    host: url.hostname,
    port: Number(url.port),
    user: "postgres",
    database: "postgres",
  });
  await client.connect();
  try {
    return (await client.query(text)).rows;
  } finally {
    await client.end();
  }
}

const POSTGRES =
  "/usr/bin/setpriv --reuid=postgres --regid=postgres --init-groups /usr/lib/postgresql/15/bin/postgres " +
  "-D /var/lib/postgresql/15/main -c config_file=/etc/postgresql/15/main/postgresql.conf -c listen_addresses='*'";

const urlOf = (status: Structured) => (status["urls"] as string[])[0] ?? "";

describe("A VM made from a Debian base in a registry", () => {
  test("runs Python as the base's user in the base's working directory, with its environment under ours", async () => {
    const program = `
import http.server, json, os, pwd
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"user": pwd.getpwuid(os.getuid()).pw_name, "cwd": os.getcwd(), "base": os.environ.get("FROM_BASE"),
                           "ours": os.environ.get("OURS"), "shm": os.access("/dev/shm", os.W_OK), "host": os.uname().nodename}).encode()
        self.send_response(200); self.end_headers(); self.wfile.write(body)
http.server.HTTPServer(("0.0.0.0", 8000), Handler).serve_forever()
`;
    await live(
      {
        from: `${registry.host}/team/python:3`,
        name: "python",
        include: ["app.py"],
        env: { OURS: 'it\'s "quoted" $HOME\nsecond line' },
        expose: [8000],
        entrypoint: ["python3", "app.py"],
        resources: { memory_mb: 384, disk_gb: 2 },
      },
      { "app.py": program },
      async (status) => {
        expect(await (await fetch(urlOf(status))).json()).toEqual({
          user: "www-data",
          cwd: "/srv/app",
          base: "kept",
          ours: 'it\'s "quoted" $HOME\nsecond line',
          shm: true,
          host: "python",
        });
      },
    );
  });

  test("serves a page with the nginx, and answers a query with the PostgreSQL, that RUN installed", {
    timeout: 400_000,
  }, async () => {
    await live(
      {
        from: `${registry.host}/debian:12`,
        name: "servers",
        include: ["index.html"],
        run: [
          "apt-get update -q && apt-get install -y -q --no-install-recommends nginx-light postgresql",
          "cp index.html /var/www/html/index.html",
          "echo 'host all all 0.0.0.0/0 trust' >> /etc/postgresql/15/main/pg_hba.conf",
        ],
        expose: [5432, 80],
        entrypoint: `/usr/sbin/nginx && exec ${POSTGRES}`,
        resources: { memory_mb: 512, disk_gb: 3 },
      },
      { "index.html": "served by nginx in a VM\n" },
      async (status) => {
        const [database, page] = (status["urls"] as string[]).map((url) => new URL(url));
        if (!database || !page) throw new Error(JSON.stringify(status));
        // It listens before it is ready, and tells early clients so.
        const rows = await waitFor(
          () => query(database, "select 6 * 7 as answer, version() as version").catch(() => null),
          { timeoutMs: 90_000, everyMs: 500, what: "PostgreSQL to take queries" },
        );
        expect(rows[0]?.["answer"]).toBe(42);
        expect(rows[0]?.["version"]).toContain("PostgreSQL 15");
        const answer = await fetch(page);
        expect(answer.headers.get("server")).toContain("nginx");
        expect(await answer.text()).toBe("served by nginx in a VM\n");
      },
    );
  });
});
