// From spawn to tools/list of the bundled stdio server, compared with a hello-world server that is bundled
// the same way.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { build } from "tsup";
import { fastApplication } from "../tsup.base.ts";
import { print } from "./report.ts";
import { pairs, ratioOfMedians, timed } from "./statistics.ts";

const ROOT = dirname(import.meta.dirname);

export async function benchStdio(): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), "formation-bench-"));
  try {
    await build({
      ...fastApplication({ hello: join(ROOT, "bench/hello/server.ts") }),
      outDir: dir,
      config: false,
    });
    const ours = [join(ROOT, "apps/stdio/dist/formation-mcp.mjs"), "--state-dir", join(dir, "state")];
    const seen = await pairs(
      40,
      () => timed(() => listTools(ours)),
      () => timed(() => listTools([join(dir, "hello.mjs")])),
    );
    print({
      name: "stdio: spawn → tools/list",
      limit: { atMost: 1.3 },
      judge: "ratio",
      result: ratioOfMedians(seen),
      against: "a hello-world server bundled the same way",
    });
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

/** Sends the first three messages of a host, and waits for the list and the end of the process. */
async function listTools(args: string[]): Promise<void> {
  const child = spawn(process.execPath, args, { stdio: ["pipe", "pipe", "inherit"] });
  const send = (message: object) => child.stdin.write(`${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`);
  let text = "";
  await new Promise<void>((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", () => reject(new Error(`${args[0]} ended before it listed its tools: ${text}`)));
    child.stdout.on("data", (chunk: Buffer) => {
      text += chunk.toString();
      if (text.includes('"id":1,') || text.includes('"id":1}')) {
        if (!text.includes("sent-list")) {
          text += "sent-list";
          send({ method: "notifications/initialized" });
          send({ id: 2, method: "tools/list", params: {} });
        }
      }
      if (/"tools":\[.*\n/.test(text)) resolve();
    });
    const params = {
      protocolVersion: "2025-11-25",
      capabilities: {},
      clientInfo: { name: "bench", version: "1" },
    };
    send({ id: 1, method: "initialize", params });
  });
  child.removeAllListeners("exit");
  child.kill("SIGKILL");
}
