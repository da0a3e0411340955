// Checks deploy/compose.yaml against the Compose specification (compose-spec.io), as far as the file uses it:
// an unknown key, an undeclared network, volume or secret, or a missing file is an error.

import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, normalize } from "node:path";
import { expect, test } from "vitest";
import { z } from "zod";
import { ROOT } from "../support/server.ts";

// The YAML parser of the formfile package; this test should not add a second one.
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
  ports: z.array(z.string().regex(/^127\.0\.0\.1:\d{1,5}:\d{1,5}$/)).optional(),
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
      // The operator makes these; every other file is in the repository.
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

/** The account that each image runs as: from the official images, and from deploy/container/Containerfile. */
const ACCOUNTS: Record<string, number> = {
  postgres: 999,
  migrate: 64_000,
  "server-1": 64_000,
  "server-2": 64_000,
};

test("each secret can be read by the accounts of the services that have it, and by no other", () => {
  const text = readFileSync(join(ROOT, "deploy/compose.yaml"), "utf8");
  const said = new Map<string, { owner: number; group: number; mode: number }>();
  for (const [, owner, group, names = "", mode, same] of text.matchAll(
    /^# {3}chown (\d+):(\d+) ([^&]+) && chmod (\d+) (.+)$/gm,
  )) {
    expect(same).toBe(names);
    for (const name of names.split(" ")) {
      said.set(`./${name}`, {
        owner: Number(owner),
        group: Number(group),
        mode: Number.parseInt(mode ?? "", 8),
      });
    }
  }
  const compose = file.parse(read());
  expect([...said.keys()].sort()).toEqual(
    Object.values(compose.secrets)
      .map((secret) => secret.file)
      .sort(),
  );
  for (const [secret, { file: path }] of Object.entries(compose.secrets)) {
    const users = Object.entries(compose.services).filter(([, { secrets = [] }]) => secrets.includes(secret));
    const readers = new Set(users.map(([name]) => ACCOUNTS[name]));
    const { owner, group, mode } = said.get(path) ?? { owner: 0, group: 0, mode: 0 };
    const allowed = [...(mode & 0o400 ? [owner] : []), ...(mode & 0o040 ? [group] : [])];
    expect(new Set(allowed), path).toEqual(readers);
    // As a server reads its secrets.
    expect(mode & 0o027, path).toBe(0);
  }
});

test("a balancer on this machine reaches each server, and nobody else reaches one past it", () => {
  const { services } = file.parse(read());
  const published = Object.entries(services).flatMap(([name, { ports = [] }]) =>
    ports.map((port) => `${name} ${port}`),
  );
  expect(published).toEqual(["server-1 127.0.0.1:3011:3010", "server-2 127.0.0.1:3012:3010"]);
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
