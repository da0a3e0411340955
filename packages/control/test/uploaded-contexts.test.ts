import { packFiles } from "@formation-mcp/artifacts/context";
import { expect, test } from "vitest";
import { HELLO } from "./formfiles.ts";
import { ALICE, BOB, openWorld, ROOT, type World } from "./world.ts";

const REMOTE = { ...ALICE, local: false };

/** Stores a context as an upload over HTTP does. */
async function uploaded(world: World, files: Record<string, string>, owner = "alice"): Promise<string> {
  const archive = packFiles(
    Object.fromEntries(Object.entries(files).map(([path, text]) => [path, { content: Buffer.from(text) }])),
    ["."],
  );
  const { digest } = await world.artifacts.put(archive, { maxBytes: 1_000_000 });
  const id = `ctx_${Math.random().toString(36).slice(2)}`;
  await world.store.documents.put({ kind: "context", id, owner, artifact: digest, doc: {} });
  return id;
}

test("a build takes an uploaded context by its id, with more files than are included", async () => {
  await using world = await openWorld();
  const context_id = await uploaded(world, { "src/a.txt": "a", "b.txt": "b", ".env": "SECRET=1" });
  const formfile = { ...HELLO, include: ["src", "./b.txt"] };
  const said = await world.call("pack_build", { formfile, context_id }, REMOTE);
  expect(said["warnings"]).toEqual([]);
  const build = await world.store.build("alice", said["build_id"] as `bld_${string}`);
  const found = await world.store.documents.get("context", context_id);
  expect(build.context_digest).toBe(found?.artifact);
});

test("one error names every included path that the uploaded context lacks, also in a dry run, and nothing is built", async () => {
  await using world = await openWorld();
  const context_id = await uploaded(world, { "src/a.txt": "a" });
  for (const dry_run of [false, true]) {
    const formfile = { ...HELLO, include: ["src/a.txt", "src/b.txt", "lib"] };
    const error = await world.refused("pack_build", { formfile, context_id, dry_run }, REMOTE);
    expect(error.code).toBe("invalid");
    expect(error.message).toContain('formfile.include[1]: "src/b.txt"');
    expect(error.message).toContain('formfile.include[2]: "lib"');
  }
  expect(await world.call("build_list")).toMatchObject({ builds: [] });
});

test("another owner's context gives the same error as one that does not exist, also to an admin", async () => {
  await using world = await openWorld();
  const context_id = await uploaded(world, { "a.txt": "a" });
  const formfile = { ...HELLO, include: ["a.txt"] };
  const ask = (id: string, who = BOB) => world.refused("pack_build", { formfile, context_id: id }, who);
  const [theirs, none] = [await ask(context_id), await ask("ctx_nothing")];
  expect([theirs.code, theirs.details.field]).toEqual(["not_found", "context_id"]);
  expect(theirs.message.replace(context_id, "ID")).toBe(none.message.replace("ctx_nothing", "ID"));
  expect((await ask(context_id, ROOT)).code).toBe("not_found");
  await world.store.documents.put({ kind: "account", id: "ctx_account", owner: "alice", doc: {} });
  expect((await ask("ctx_account", ALICE)).code).toBe("not_found");
});

test("two forms of context in one call are refused; a context without included files is left out with a warning", async () => {
  await using world = await openWorld();
  const context_id = await uploaded(world, { "a.txt": "a" });
  const both = await world.refused("pack_build", { formfile: HELLO, context_id, context_files: {} });
  expect([both.code, both.details.field]).toEqual(["invalid", "context_id"]);
  const said = await world.call("pack_build", { formfile: HELLO, context_id });
  expect(said["warnings"]).toEqual([expect.stringContaining("includes nothing")]);
  expect(await world.store.build("alice", said["build_id"] as `bld_${string}`)).toMatchObject({
    context_digest: null,
  });
});

test("a remote caller can't name a context_dir; the remedy says how to upload one", async () => {
  await using world = await openWorld({ contextDirs: ["/"] });
  for (const context_dir of ["/etc", "relative", "/nowhere"]) {
    const error = await world.refused("pack_build", { formfile: HELLO, context_dir }, REMOTE);
    expect(error.code).toBe("forbidden");
    expect(error.details.remedy).toMatch(/PUT \/api\/contexts.*context_id.*context_files/);
  }
});
