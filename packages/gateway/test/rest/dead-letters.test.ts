import { expect, it } from "vitest";
import { EVERYTHING, type Json, openWorld } from "./world.ts";

const seen = ({ data }: { data: Json }) => data["dead_letters"] as Json[];

it("an admin sees what no worker could take, newest first; nobody else does", async () => {
  await using world = await openWorld();
  const admin = await world.someone(["admin"]);
  const { queue } = world.deps;
  await using _ = await queue.consume(["pack.build"], { slots: 1 }, async () => {});
  const ask = (query = "") => world.ask("GET", `/api/dead-letters${query}`, { token: admin.token });

  expect((await ask()).data).toEqual({ dead_letters: [] });
  await queue.publish("pack.build", "bad.1", { nothing: 1 } as never);
  await expect.poll(async () => seen(await ask()).length).toBe(1);
  await queue.publish("pack.build", "bad.2", { nothing: 2 } as never);
  await expect
    .poll(async () => seen(await ask()).map((letter) => letter["message_id"]))
    .toEqual(["bad.2", "bad.1"]);
  expect(seen(await ask("?limit=1"))).toMatchObject([{ subject: "pack.build", body: '{"nothing":2}' }]);
  for (const limit of ["0", "101", "all"]) expect((await ask(`?limit=${limit}`)).status).toBe(400);

  const alice = await world.someone(EVERYTHING);
  expect((await world.ask("GET", "/api/dead-letters", { token: alice.token })).status).toBe(403);
  expect((await world.ask("GET", "/api/dead-letters")).status).toBe(401);
});

it("a dead letter is a stranger's text: cut, without what drives a terminal, whatever its time says", async () => {
  await using world = await openWorld();
  const admin = await world.someone(["admin"]);
  const text = `\u001b[2J\u009b31m\u202e${"é".repeat(5000)}`;
  const letter = { subject: text, message_id: text, body: text, reason: text };
  world.deps.queue.deadLetters = async () => [
    { ...letter, at: 1e300 },
    { ...letter, at: -1e300 },
  ];
  const [late, early] = seen(await world.ask("GET", "/api/dead-letters", { token: admin.token }));
  expect(late).toMatchObject({ at: "+275760-09-13T00:00:00.000Z", body: expect.stringMatching(/^é+…$/) });
  expect(early).toMatchObject({ at: "1970-01-01T00:00:00.000Z" });
  expect(Buffer.byteLength(JSON.stringify(late))).toBeLessThan(3000);
});
