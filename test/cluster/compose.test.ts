// deploy/compose.yaml against what the Compose specification takes (compose-spec.io), as far as the file goes: a key that is
// none, a network, volume or secret that nobody declares, or a file that is not here, is a mistake.

import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, normalize } from "node:path";
import { expect, test } from "vitest";
import { z } from "zod";
import { ROOT } from "../support/server.ts";

// The parser of the formfile's room; this test is no reason for a second one.
const { parse } = createRequire(join(ROOT, "packages/formfile/package.json"))("yaml") as {
  parse(text: string, options: { merge: boolean }): unknown;
};

const duration = z.string().regex(/^(\d+(us|ms|s|m|h))+$/);
const words = z.array(z.string());
const healthcheck = z.strictObject({
  test: z.union([z.string(), words]).optional(),
  interval: duration.optional(),
  timeout: duration.optional(),
  start_period: duration.optional(),
  retries: z.int().optional(),
  disable: z.boolean().optional(),
});
const service = z.strictObject({
  image: z.string().optional(),
  build: z
    .strictObject({
      context: z.string(),
      dockerfile: z.string().optional(),
      args: z.record(z.string(), z.string()).optional(),
    })
    .optional(),
  command: z.union([z.string(), words]).optional(),
  restart: z
    .string()
    .regex(/^(no|always|unless-stopped|on-failure(:\d+)?)$/)
    .optional(),
  read_only: z.boolean().optional(),
  cap_drop: words.optional(),
  security_opt: words.optional(),
  stop_grace_period: duration.optional(),
  hostname: z.string().optional(),
  depends_on: z
    .record(
      z.string(),
      z.strictObject({
        condition: z.enum(["service_started", "service_healthy", "service_completed_successfully"]),
      }),
    )
    .optional(),
  environment: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])).optional(),
  secrets: words.optional(),
  volumes: z.array(z.string().regex(/^[^:]+:\/[^:]+(:ro)?$/)).optional(),
  healthcheck: healthcheck.optional(),
  networks: words.optional(),
});
const file = z
  .object({
    name: z.string().regex(/^[a-z0-9][a-z0-9_-]*$/),
    services: z.record(z.string().regex(/^[a-zA-Z0-9._-]+$/), service),
    volumes: z.record(z.string(), z.strictObject({})),
    secrets: z.record(z.string(), z.strictObject({ file: z.string() })),
    networks: z.record(
      z.string(),
      z.strictObject({ ipam: z.strictObject({ config: z.array(z.strictObject({ subnet: z.cidrv4() })) }) }),
    ),
  })
  .catchall(z.unknown())
  .refine((all) =>
    Object.keys(all).every((key) => /^(name|services|volumes|secrets|networks|x-.+)$/.test(key)),
  );

const read = () => parse(readFileSync(join(ROOT, "deploy/compose.yaml"), "utf8"), { merge: true });

test("it is what Compose takes", () => {
  const parsed = file.safeParse(read());
  expect(parsed.error?.issues ?? []).toEqual([]);
});

test("every name in it is declared, every file that it takes from here is here", () => {
  const compose = file.parse(read());
  for (const [name, each] of Object.entries(compose.services)) {
    for (const other of Object.keys(each.depends_on ?? {}))
      expect(Object.keys(compose.services), name).toContain(other);
    for (const secret of each.secrets ?? []) expect(Object.keys(compose.secrets), name).toContain(secret);
    for (const network of each.networks ?? []) expect(Object.keys(compose.networks), name).toContain(network);
    for (const volume of each.volumes ?? []) {
      const [from = ""] = volume.split(":");
      // Made by the operator; everything else is here.
      if (/^\.\/nats\/(servers|workers)\.conf$/.test(from)) continue;
      if (from.startsWith(".")) expect(existsSync(join(ROOT, "deploy", from)), from).toBe(true);
      else expect(Object.keys(compose.volumes), name).toContain(from);
    }
    if (each.build) {
      const context = normalize(join(ROOT, "deploy", each.build.context));
      expect(context).toBe(join(ROOT, "apps/http/dist"));
      expect(existsSync(join(context, each.build.dockerfile ?? "Containerfile"))).toBe(true);
    }
  }
});

test("NATS finds all that its configuration includes, and keeps what it stores", () => {
  const { nats } = file.parse(read()).services;
  const mounted = (nats?.volumes ?? []).map((volume) => volume.split(":")[1] ?? "");
  const own = readFileSync(join(ROOT, "deploy/nats/nats.conf"), "utf8");
  for (const [, name] of own.matchAll(/^\s*include "([^"]+)"/gm)) {
    expect(mounted).toContain(`/etc/formation/${name}`);
  }
  expect(mounted).toContain(nats?.environment?.["NATS_STORE"]);
});
