// Images transferred to another node as archives.

import type { Builder } from "@formation-mcp/builder";
import { FormationError } from "@formation-mcp/contract";
import { expect, it } from "vitest";
import type { Fixture } from "./fixture.ts";

const TRANSFER_TIMEOUT_MS = 60_000;

/** Exports and imports. */
export function describeTransfers(fixture: Fixture): void {
  const archiveOf = async (digest: string, builder: Builder = fixture.builder): Promise<Buffer> => {
    const parts: Uint8Array[] = [];
    for await (const part of builder.exportImage(digest, AbortSignal.timeout(TRANSFER_TIMEOUT_MS)))
      parts.push(part);
    return Buffer.concat(parts);
  };
  const take = (builder: Builder, digest: string, archive: Uint8Array) =>
    builder.importImage(digest, once(archive), AbortSignal.timeout(TRANSFER_TIMEOUT_MS));

  it("gives an image to another node, which keeps it as its own", async () => {
    fixture.context({ tool: "#!/bin/sh\n" }, { tool: 0o755 });
    const run = [`echo ${fixture.unique()} > file; ln -s file link; mkdir -m 700 secret`];
    const { image } = await fixture.build({ run, include: ["tool"] });
    const archive = await archiveOf(image.digest);
    expect((await archiveOf(image.digest)).equals(archive)).toBe(true);
    const { builder, leftovers } = await fixture.another("taker");
    try {
      await take(builder, image.digest, archive);
      await take(builder, image.digest, archive);
      expect(await builder.images()).toEqual([{ digest: image.digest, bytes: image.bytes }]);
      expect(await fixture.read(image, "/app/file", builder)).toBe(await fixture.read(image, "/app/file"));
      expect(await fixture.read(image, "/app/tool", builder)).toBe("#!/bin/sh\n");
      expect((await archiveOf(image.digest, builder)).equals(archive)).toBe(true);
      expect(await leftovers()).toEqual([]);
      await builder.remove(image.digest);
      expect(await builder.images()).toEqual([]);
    } finally {
      await builder.destroy();
    }
    expect(await fixture.leftovers()).toEqual([]);
  });

  it("keeps nothing of an archive that is another image's, torn, or none", async () => {
    const { image } = await fixture.build({ run: [`echo ${fixture.unique()} > file`] });
    const { image: other } = await fixture.build({ run: [`echo ${fixture.unique()} > file`] });
    const archive = await archiveOf(other.digest);
    const { builder, leftovers } = await fixture.another("refuser");
    try {
      for (const wrong of [archive, archive.subarray(0, archive.length / 2), Buffer.from("no archive")]) {
        await expect(take(builder, image.digest, wrong)).rejects.toBeInstanceOf(FormationError);
      }
      async function* failing(): AsyncIterable<Uint8Array> {
        yield archive.subarray(0, 10_000);
        throw new FormationError("internal", "The content is damaged.");
      }
      const taking = builder.importImage(other.digest, failing(), AbortSignal.timeout(TRANSFER_TIMEOUT_MS));
      await expect(taking).rejects.toMatchObject({ message: "The content is damaged." });
      expect(await builder.images()).toEqual([]);
      expect(await leftovers()).toEqual([]);
    } finally {
      await builder.destroy();
    }
  });

  it("ends an export when it is cancelled or its reader stops, and refuses an unknown image", async () => {
    const { image } = await fixture.build({ run: [`head -c 3000000 /dev/urandom > file`] });
    const stop = new AbortController();
    const cancelled = async () => {
      for await (const _ of fixture.builder.exportImage(image.digest, stop.signal)) stop.abort();
    };
    await expect(cancelled()).rejects.toMatchObject({ code: "cancelled" });
    for await (const _ of fixture.builder.exportImage(image.digest, AbortSignal.timeout(TRANSFER_TIMEOUT_MS)))
      break;
    const unknown = `sha256:${"0".repeat(64)}`;
    await expect(archiveOf(unknown)).rejects.toMatchObject({ code: "not_found" });
    expect(await fixture.leftovers()).toEqual([]);
  });
}

async function* once(bytes: Uint8Array): AsyncIterable<Uint8Array> {
  yield bytes;
}
