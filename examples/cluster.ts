// The main use on a cluster: real PostgreSQL and NATS with credentials, two HTTP servers behind one address,
// three workers. A real MCP client builds examples/hello through them, ships it, fetches its page from inside
// the VM, ships the same build on another node, prints where everything ran, and stops it all.

import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { parseArgs, promisify } from "node:util";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { startAgent } from "./agent.ts";
import { BUNDLES, type Cluster, startCluster } from "./cluster/ground.ts";

const { values: options } = parseArgs({
  options: {
    workers: { type: "string", default: "3" },
    servers: { type: "string", default: "2" },
    keep: { type: "boolean" },
    help: { type: "boolean", short: "h" },
  },
});
if (options.help) {
  process.stdout.write(`cluster: the demo's story on PostgreSQL, NATS, several servers and several workers.

  --servers N   HTTP servers behind the one address (default: 2)
  --workers N   workers, each with a state directory of its own (default: 3)
  --keep        leave all of it running until Ctrl-C, and print how to connect
`);
  process.exit(0);
}

const example = join(dirname(import.meta.dirname), "examples/hello");
const started = performance.now();
const interrupted = Promise.withResolvers<void>();
let told = false;
/** Output after the signal to stop ends here. */
const say = (text: string) => {
  if (told) throw new Error("told to stop");
  process.stdout.write(`${((performance.now() - started) / 1000).toFixed(1).padStart(6)} s  ${text}\n`);
};
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => {
    told = !waiting;
    interrupted.resolve();
  });
}
/** Whether everything is done except waiting for Ctrl-C. */
let waiting = false;

const { client, call, finished } = startAgent("formation-cluster", say);

async function page(url: string): Promise<string> {
  const response = await fetch(url, { signal: AbortSignal.timeout(10_000) });
  if (!response.ok) throw new Error(`${url} answered ${response.status}`);
  return response.text();
}

/** `formation-mcp` as a user runs it: with a key and the URL of a server. */
async function person(cluster: Cluster, ...args: string[]): Promise<string> {
  const [file = "", entry = ""] = BUNDLES.local;
  const { stdout } = await promisify(execFile)(file, [entry, ...args], { env: personEnv(cluster) });
  return stdout.trim();
}

function personEnv({ root, url }: Cluster): Record<string, string> {
  const { PATH = "/usr/bin:/bin" } = process.env;
  return { PATH, HOME: root, XDG_CONFIG_HOME: join(root, "person"), FORMATION_URL: url };
}

/** Ships the build, on the named node or on any, and returns where the process of its VM is. */
async function ship(
  cluster: Cluster,
  build: unknown,
  name: string,
  node?: string,
): Promise<{ url: string; node: string }> {
  say(`pack_ship: ${name}${node ? ` on ${node}, which the call names` : ", on any node"}`);
  const target = node ? { target_node: node } : {};
  const shipped = await call("pack_ship", { build_id: build, instance_name: name, ...target });
  await finished(shipped, "The ship");
  const [url = ""] = (await call("vm_status", { instance: name }))["urls"] as string[];
  const machine = String(shipped["deployment_id"]);
  const where = cluster.nodes.find((each) => each.machines().some((one) => one.startsWith(machine)));
  if (!where) throw new Error(`No node has a machine of ${machine}.`);
  say(`${name} runs on ${where.name} and answers at ${url}`);
  return { url, node: where.name };
}

async function story(cluster: Cluster): Promise<void> {
  await person(cluster, "keygen");
  await person(cluster, "login", "--server", cluster.url, "--bootstrap", cluster.bootstrapToken);
  const [command = "", ...args] = [...BUNDLES.local, "--allow-dir", example];
  await client.connect(
    new StdioClientTransport({ command, args, env: personEnv(cluster), stderr: "inherit" }),
  );
  say(`signed in with a key as the first admin; ${(await client.listTools()).tools.length} tools`);

  say("pack_build: examples/hello");
  const formfile = readFileSync(join(example, "Formfile.yaml"), "utf8");
  const build = await call("pack_build", { formfile, context_dir: example });
  await finished(build, "The build");
  const id = build["build_id"];
  say(`built ${id}`);

  const first = await ship(cluster, id, "hello");
  process.stdout.write(`${await page(first.url)}\n`);
  const elsewhere = cluster.nodes.find(({ name }) => name !== first.node);
  if (elsewhere) {
    const second = await ship(cluster, id, "hello-again", elsewhere.name);
    if (second.node !== elsewhere.name) throw new Error(`It runs on ${second.node}.`);
    if ((await page(second.url)) !== (await page(first.url))) throw new Error("It serves another page.");
    say("the same page, from the same image: its archive went there once, through NATS");
  }

  say(`connections that each server got: ${cluster.balancer.shares().join(", ")}`);
  for (const node of cluster.nodes) {
    const did = await node.metric("formation_operations_ended_total", 'state="completed"');
    say(`${node.name} completed ${did} of the operations and has ${node.machines().length} machines`);
  }
  if (options.keep) await keep(cluster);
  for (const name of elsewhere ? ["hello", "hello-again"] : ["hello"]) {
    say(`vm_delete: ${name}`);
    await finished(await call("vm_delete", { instance: name, confirm: name }), "The delete");
  }
  const list = (await call("vm_list", {}))["instances"] as unknown[];
  if (list.length !== 0) throw new Error(`vm_list still shows ${JSON.stringify(list)}`);
}

async function keep(cluster: Cluster): Promise<void> {
  const [command = "", ...args] = BUNDLES.local;
  const env = { FORMATION_URL: cluster.url, XDG_CONFIG_HOME: join(cluster.root, "person") };
  const host = { mcpServers: { formation: { command, args, env } } };
  say(`everything keeps running at ${cluster.url} until Ctrl-C`);
  process.stdout.write(
    `\nFor a desktop host's configuration of MCP servers:\n\n${JSON.stringify(host, null, 2)}\n\n`,
  );
  waiting = true;
  await interrupted.promise;
}

let cluster: Cluster | null = null;
try {
  cluster = await startCluster({
    say,
    servers: Number(options.servers),
    workers: Number(options.workers),
    drivers: "real",
  });
  await story(cluster);
} catch (error) {
  process.stderr.write(`\nThe cluster failed: ${error instanceof Error ? error.message : error}\n`);
  process.exitCode = 1;
} finally {
  told = false;
  await client.close().catch(() => {});
  if (cluster) {
    say("stopping everything");
    await cluster.stop().then(
      () => say("nothing is left: no process, no port, no directory"),
      (error: Error) => {
        process.stderr.write(`${error.message}\n`);
        process.exitCode = 1;
      },
    );
  }
  if (!process.exitCode) say("done");
}
