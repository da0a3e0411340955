// @module-tag chromium

import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { FormationError } from "@formation-mcp/contract";
import { type Browser, chromium } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type TestServer, testServer } from "./server.ts";

const ROOT = dirname(dirname(dirname(import.meta.dirname)));
const PAGE = `
import { generateKey } from "@formation-mcp/auth/keys";
import { createClient, keySigner } from "@formation-mcp/client";
globalThis.story = async () => {
  const client = createClient({ url: location.origin, key: keySigner(generateKey("ed25519")) });
  const { owner } = await client.whoami();
  const { instances } = await client.call("vm_list", {});
  const states = [];
  for await (const { state } of client.watch("op_1")) states.push(state);
  const { context_id } = await client.upload(new Blob(["tar"]));
  const error = await client.call("vm_status", { instance: "x" }).catch(({ code, details }) => [code, details.remedy]);
  return { owner, instances, states, context_id, error };
};
`;

let server: TestServer;
let browser: Browser;
let directory: string;

beforeAll(async () => {
  directory = mkdtempSync(join(import.meta.dirname, ".browser-"));
  writeFileSync(join(directory, "page.js"), PAGE);
  const tsup = join(ROOT, "node_modules/tsup/dist/cli-default.js");
  writeFileSync(
    join(directory, "tsup.config.js"),
    `export default {
      entry: ["page.js"], format: "esm", platform: "browser", target: "es2022", noExternal: [/.*/], outDir: "out",
      splitting: true, outExtension: () => ({ js: ".js" }),
      esbuildOptions(options) { options.conditions = ["formation-source"]; },
    };`,
  );
  // For a browser the bundler has no module of Node's: an import of one would fail here.
  await promisify(execFile)(process.execPath, [tsup], { cwd: directory });
  server = await testServer();
  browser = await chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"],
  });
});
afterAll(async () => {
  await browser?.close();
  await server?.close();
  rmSync(directory, { recursive: true, force: true });
});

it("the client works in a browser: signs in, calls, watches, uploads, tells errors", async () => {
  const page = await browser.newPage();
  const problems: string[] = [];
  page.on("console", (message) => {
    // A refusal is an answer here, whatever the browser says of its status.
    if (message.type() === "error" && !message.text().startsWith("Failed to load"))
      problems.push(message.text());
  });
  page.on("pageerror", (error) => problems.push(String(error)));
  await page.route("**/*", async (route) => {
    const { pathname } = new URL(route.request().url());
    if (pathname === "/")
      return route.fulfill({
        contentType: "text/html",
        body: '<script type="module" src="/out/page.js"></script>',
      });
    if (!pathname.startsWith("/out/")) return route.continue();
    const body = readFileSync(join(directory, pathname), "utf8");
    return route.fulfill({ contentType: "text/javascript", body });
  });
  server.on("/api/tools/vm_list", () => ({ instances: [], cursor: null }));
  server.on("/api/contexts", () => ({ context_id: "ctx_1", bytes: 3, files: 0 }));
  server.on("/api/operations/op_1/events", (_, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.end(
      'id: 1\nevent: operation\ndata: {"state":"running","done":false}\n\nevent: operation\ndata: {"state":"completed","done":true}\n\n',
    );
  });
  server.on("/api/tools/vm_status", () => {
    throw new FormationError("not_found", "There is no such VM.", { remedy: "Call vm_list." });
  });
  await page.goto(`${server.url}/`);
  await page.waitForFunction("globalThis.story !== undefined");
  const told = await page.evaluate("globalThis.story()");
  expect(problems).toEqual([]);
  expect(told).toMatchObject({
    owner: "0xowner",
    instances: [],
    states: ["running", "completed"],
    context_id: "ctx_1",
    error: ["not_found", "Call vm_list."],
  });
});
