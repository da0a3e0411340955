// @module-tag bundles

// The official MCP conformance suite against the product, without fixtures. The lists below name the
// scenarios that run, and each passes every check. The suite does not use tokens, so a proxy on loopback adds
// one.

import { type ChildProcess, execFile, spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { waitFor } from "@formation-mcp/os";
import { freePort } from "@formation-mcp/os/testing/free-port";
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openChromium } from "../support/http/browser.ts";
import { type Ground, openGround } from "../support/http/ground.ts";
import { bearerProxy, type Loopback } from "../support/http/loopback.ts";
import { signInAndConsent } from "../support/http/sign-in.ts";
import { ask } from "../support/http/wire.ts";
import { ROOT } from "../support/server.ts";

const SUITE = join(ROOT, "node_modules/@modelcontextprotocol/conformance/dist/index.js");

/** Scenarios that need no tool, prompt or resource made for the test: all of their checks pass. */
const WHOLE: readonly (readonly [scenario: string, specVersion: string])[] = [
  ["server-initialize", "2025-06-18"],
  ["server-initialize", "2025-11-25"],
  ["ping", "2025-11-25"],
  ["tools-list", "2025-06-18"],
  ["tools-list", "2025-11-25"],
  ["tools-list", "2026-07-28"],
  ["dns-rebinding-protection", "2025-11-25"],
  ["dns-rebinding-protection", "2026-07-28"],
  ["server-sse-multiple-streams", "2026-07-28"],
  ["http-header-validation", "2026-07-28"],
  ["input-required-result-unsupported-methods", "2026-07-28"],
  ["input-required-result-validate-input", "2026-07-28"],
];

/**
 * Scenarios in which some checks need `test_…` tools, prompts or resources, which the product does not have.
 * All other checks pass.
 */
const PARTLY: readonly (readonly [scenario: string, specVersion: string, without: readonly string[]])[] = [
  [
    "server-stateless",
    "2026-07-28",
    [
      "sep-2575-server-rejects-undeclared-capability",
      "sep-2575-missing-capability-http-400",
      "sep-2575-http-server-no-independent-requests-on-stream",
      "sep-2575-server-no-log-without-loglevel",
      "sep-2575-server-sends-prompts-list-changed-on-subscription",
      "sep-2575-server-sends-tools-list-changed-on-subscription",
    ],
  ],
  [
    "caching",
    "2026-07-28",
    [
      "sep-2549-prompts-list-caching-hints",
      "sep-2549-resources-list-caching-hints",
      "sep-2549-resources-templates-list-caching-hints",
      "sep-2549-resources-read-caching-hints",
    ],
  ],
];

let ground: Ground;
let proxy: Loopback;
let browser: Browser;
let results: string;

beforeAll(async () => {
  ground = await openGround();
  proxy = await bearerProxy(ground.url, ground.user.token);
  browser = await openChromium();
  results = mkdtempSync(join(tmpdir(), "formation-conformance-"));
});
afterAll(async () => {
  await browser?.close();
  await proxy?.close();
  await ground?.close();
  if (results) rmSync(results, { recursive: true, force: true });
});

interface Check {
  id: string;
  status: string;
  errorMessage?: string;
}

/** Every check that the suite wrote below a directory. */
function checksIn(directory: string): Check[] {
  return readdirSync(directory, { recursive: true })
    .map(String)
    .filter((name) => name.endsWith("checks.json"))
    .flatMap((name) => JSON.parse(readFileSync(join(directory, name), "utf8")) as Check[]);
}

function expectPassed(directory: string, told: string, without: readonly string[] = []): void {
  const checks = checksIn(directory).filter(({ status }) => status !== "INFO");
  expect(checks.length - without.length, told).toBeGreaterThan(0);
  const failed = checks.filter(({ status }) => status !== "SUCCESS");
  expect(failed.map(({ id }) => id).sort(), told).toEqual([...without].sort());
}

async function play(scenario: string, specVersion: string, without?: readonly string[]): Promise<void> {
  const out = join(results, `${scenario}-${specVersion}`);
  const words = [
    "server",
    "--url",
    `${proxy.url}/mcp`,
    "--scenario",
    scenario,
    "--spec-version",
    specVersion,
  ];
  const told = await promisify(execFile)(process.execPath, [SUITE, ...words, "-o", out], {
    timeout: 90_000,
  }).catch((error: { stdout: string; stderr: string }) => error);
  expectPassed(out, told.stdout + told.stderr, without);
}

describe("Server scenario", () => {
  test.concurrent.each(WHOLE)("%s of %s passes", (scenario, specVersion) => play(scenario, specVersion));
  test.concurrent.each(PARTLY)("%s of %s passes as far as a product can", (...scenario) => play(...scenario));
});

describe("Authorization server", () => {
  test("every scenario passes, with a person in Chromium who signs in and consents", async () => {
    const port = await freePort();
    const registered = await ask(ground.url, {
      method: "POST",
      path: "/oauth/register",
      headers: [["Content-Type", "application/json"]],
      body: JSON.stringify({
        client_name: "Conformance",
        redirect_uris: [`http://127.0.0.1:${port}/callback`],
        token_endpoint_auth_method: "none",
      }),
    });
    expect(registered.status, registered.body).toBe(201);
    const out = mkdtempSync(join(results, "authorization-"));
    const words = [
      ...["authorization", "--url", ground.url],
      ...["--client-id", JSON.parse(registered.body).client_id, "--port", String(port)],
      ...["--resource", `${ground.url}/mcp`, "-o", out],
    ];
    const suite = spawn(process.execPath, [SUITE, ...words], { stdio: ["ignore", "pipe", "pipe"] });
    const told = listen(suite);
    try {
      const url = await waitFor(() => /^http\S+\/oauth\/authorize\?\S+/m.exec(told())?.[0], {
        timeoutMs: 60_000,
        what: "the suite to ask for a person",
      });
      await signInAndConsent(browser, new URL(url), ground.user.key);
      await waitFor(() => suite.exitCode !== null, { timeoutMs: 60_000, what: "the suite to end" });
      expect(suite.exitCode, told()).toBe(0);
    } finally {
      suite.kill("SIGKILL");
    }
    expectPassed(out, told());
    expect(told()).toContain("authorization-server-metadata-endpoint");
    expect(told()).toContain("authorization-code-grant");
  });
});

function listen(child: ChildProcess): () => string {
  let text = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding("utf8").on("data", (chunk: string) => {
      text += chunk;
    });
  }
  return () => text;
}
