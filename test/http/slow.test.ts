// @module-tag bundles

// Slow clients on a server with short limits: each connection ends at its limit, and other clients are served
// meanwhile.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Ground, openGround } from "../support/http/ground.ts";
import { ask, bytesOf, Wire } from "../support/http/wire.ts";

let ground: Ground;
beforeAll(async () => {
  ground = await openGround({
    FORMATION_HTTP_PATIENCE_SECONDS: "2",
    FORMATION_HTTP_CONNECTIONS: "64",
  });
});
afterAll(() => ground?.close());

const host = () => `Host: ${new URL(ground.url).host}\r\n`;

describe("A connection ends by its limit", () => {
  const cases: [string, () => string][] = [
    ["if nothing comes", () => ""],
    ["if a header never ends", () => `GET /health/live HTTP/1.1\r\n${host()}X-Slow: `],
    [
      "if a body never ends",
      () =>
        `POST /api/auth/validate HTTP/1.1\r\n${host()}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{`,
    ],
    [
      "if chunks never end",
      () =>
        `POST /api/auth/validate HTTP/1.1\r\n${host()}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n`,
    ],
    [
      "if an upload never ends",
      () =>
        `PUT /api/contexts HTTP/1.1\r\n${host()}Authorization: Bearer ${ground.user.token}\r\nContent-Type: application/x-tar\r\nContent-Length: 10240\r\n\r\n`,
    ],
  ];
  test.each(cases)("%s", async (_, bytes) => {
    const wire = await Wire.open(ground.url);
    wire.write(bytes());
    expect((await ask(ground.url, { path: "/health/live" })).status).toBe(200);
    await wire.untilEnded(30_000);
    if (wire.rest !== "") ground.refused(await wire.reply(), [408, 400]);
    wire.close();
  });

  test("if each byte comes just before the patience ends (slowloris)", async () => {
    const wires = await Promise.all(Array.from({ length: 20 }, () => Wire.open(ground.url)));
    for (const wire of wires) wire.write(`GET /health/live HTTP/1.1\r\n${host()}`);
    const drip = setInterval(() => {
      for (const wire of wires) wire.write("X-a: b\r\n");
    }, 100);
    try {
      await Promise.all(wires.map((wire) => wire.untilEnded(30_000)));
    } finally {
      clearInterval(drip);
      for (const wire of wires) wire.close();
    }
    expect((await ask(ground.url, { path: "/health/live" })).status).toBe(200);
  });

  test("if it was kept alive and nobody asks more", async () => {
    const wire = await Wire.open(ground.url);
    wire.write(bytesOf(ground.url, { path: "/health/live" }));
    expect((await wire.reply())?.status).toBe(200);
    await wire.untilEnded(30_000);
    wire.close();
  });
});

test("more connections than the server takes end at once, and it serves again as soon as there is room", async () => {
  const wires = await Promise.all(Array.from({ length: 64 }, () => Wire.open(ground.url)));
  try {
    const late = await Wire.open(ground.url);
    late.write(bytesOf(ground.url, { path: "/health/live" }));
    await late.untilEnded();
    late.close();
  } finally {
    for (const wire of wires) wire.close();
  }
  let served = false;
  for (let round = 0; round < 100 && !served; round++) {
    const wire = await Wire.open(ground.url);
    wire.write(bytesOf(ground.url, { path: "/health/live" }));
    served = (await wire.reply().catch(() => null))?.status === 200;
    wire.close();
  }
  expect(served).toBe(true);
});
