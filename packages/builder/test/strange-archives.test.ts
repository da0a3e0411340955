// @module-tag buildah

// Images from other nodes, one of which may be compromised. An archive's claims are not trusted: it must hold
// exactly the image that was asked for, and must not affect anything else on the node.

import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Builder } from "@formation-mcp/builder";
import { openBuildahBuilder } from "@formation-mcp/builder/buildah";
import { FormationError } from "@formation-mcp/contract";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { buildWell } from "./support/build.ts";
import { leftoversOf, readDisk } from "./support/real-disk.ts";

interface Descriptor {
  mediaType: string;
  digest: string;
  size: number;
  urls?: string[];
}
interface Manifest {
  config: Descriptor;
  layers: Descriptor[];
}

const root = mkdtempSync(join(tmpdir(), "fb-"));
let taker: Builder;
/** The image that is asked for and another one, each as its archive's directory. */
let wanted: { digest: string; layout: string };
let other: { digest: string; layout: string };

const signal = () => AbortSignal.timeout(60_000);
const tar = (...args: string[]) => execFileSync("tar", args, { maxBuffer: 1e8 });
const blob = (layout: string, digest: string) => join(layout, "blobs/sha256", digest.slice(7));

beforeAll(async () => {
  const builder = await openBuildahBuilder({ stateDir: join(root, "giver") });
  const make = (name: string) => () => buildWell(builder, { run: [`echo ${name} > /file`], entrypoint: "x" });
  wanted = await archived(builder, "wanted", make("wanted"));
  other = await archived(builder, "other", make("other"));
  await builder.destroy();
  taker = await openBuildahBuilder({ stateDir: join(root, "taker") });
});
afterAll(async () => {
  await taker?.destroy();
  rmSync(root, { recursive: true, force: true });
});

/** Builds an image, and returns its archive and the archive's content. */
async function archived(builder: Builder, name: string, make: () => Promise<{ image: { digest: string } }>) {
  const { digest } = (await make()).image;
  const layout = join(root, `archive-${name}`);
  mkdirSync(layout);
  const parts: Uint8Array[] = [];
  for await (const part of builder.exportImage(digest, signal())) parts.push(part);
  writeFileSync(`${layout}.tar`, Buffer.concat(parts));
  tar("-C", layout, "-xf", `${layout}.tar`);
  return { digest, layout };
}

async function* once(bytes: Uint8Array): AsyncIterable<Uint8Array> {
  yield bytes;
}

async function take(archive: Uint8Array): Promise<unknown> {
  return await taker.importImage(wanted.digest, once(archive), signal()).then(
    () => "taken",
    (error: unknown) => error,
  );
}

function manifestOf(layout: string): Manifest {
  const index = JSON.parse(readFileSync(join(layout, "index.json"), "utf8"));
  return JSON.parse(readFileSync(blob(layout, index.manifests[0].digest), "utf8"));
}

/** An image's archive with a changed manifest and added blobs. */
function forged(
  from: string,
  change: (manifest: Manifest) => void,
  add: (layout: string) => void = () => {},
): Buffer {
  const layout = mkdtempSync(join(root, "forged-"));
  execFileSync("cp", ["-a", `${from}/.`, layout]);
  const manifest = manifestOf(layout);
  change(manifest);
  const bytes = Buffer.from(JSON.stringify(manifest));
  const digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
  writeFileSync(blob(layout, digest), bytes);
  const index = JSON.parse(readFileSync(join(layout, "index.json"), "utf8"));
  writeFileSync(
    join(layout, "index.json"),
    JSON.stringify({ ...index, manifests: [{ ...index.manifests[0], digest, size: bytes.length }] }),
  );
  add(layout);
  return tar("-C", layout, "--sparse", "-cf", "-", ".");
}

async function refuses(archive: Uint8Array): Promise<void> {
  expect(await take(archive)).toBeInstanceOf(FormationError);
  expect(await taker.images()).toEqual([]);
  expect(await leftoversOf(join(root, "taker"))).toEqual([]);
}

describe("an archive is refused", () => {
  it("whose manifest names the configuration of the wanted image and the layers of another", async () => {
    const theirs = manifestOf(other.layout).layers;
    const archive = forged(
      wanted.layout,
      (manifest) => {
        manifest.layers = theirs;
      },
      (layout) => {
        for (const { digest } of theirs)
          execFileSync("cp", [blob(other.layout, digest), blob(layout, digest)]);
      },
    );
    await refuses(archive);
  });

  it("that would have its layers fetched from somewhere", async () => {
    const asked: string[] = [];
    const server = createServer((request, response) => {
      asked.push(request.url ?? "");
      response.end();
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    try {
      await refuses(
        forged(wanted.layout, (manifest) => {
          for (const layer of manifest.layers) layer.urls = [`http://127.0.0.1:${port}/inner`];
        }),
      );
      expect(asked).toEqual([]);
    } finally {
      server.close();
    }
  });

  it("whose index or manifest is larger than memory should hold", async () => {
    const before = process.resourceUsage().maxRSS;
    await refuses(
      forged(
        wanted.layout,
        () => {},
        (layout) => truncateSync(join(layout, "index.json"), 1_500_000_000),
      ),
    );
    expect((process.resourceUsage().maxRSS - before) / 1024).toBeLessThan(500);
  });

  it("with links, devices or pipes in it, or names that lead out", async () => {
    const outside = join(root, "outside");
    for (const make of [
      (layout: string) => execFileSync("ln", ["-s", "/etc/hostname", join(layout, "link")]),
      (layout: string) => execFileSync("ln", [join(layout, "oci-layout"), join(layout, "hard")]),
      (layout: string) => execFileSync("mkfifo", [join(layout, "pipe")]),
    ]) {
      await refuses(forged(wanted.layout, () => {}, make));
    }
    writeFileSync(outside, "mine");
    const work = mkdtempSync(join(root, "names-"));
    writeFileSync(join(work, "x"), "theirs");
    for (const name of ["../../../../outside", outside]) {
      await refuses(tar("-C", work, "-P", `--transform=s,^x$,${name},`, "-cf", "-", "x"));
      expect(readFileSync(outside, "utf8")).toBe("mine");
    }
    expect(existsSync(join(root, "taker"))).toBe(true);
  });
});

it("an image that says of itself what a build says lends that build no layer", async () => {
  const context = (name: string, text: string) => {
    const path = join(root, name);
    mkdirSync(path);
    writeFileSync(join(path, "app"), text);
    return { contextDir: path };
  };
  const formfile = { include: ["app"], entrypoint: "x" };
  const mine = context("mine", "mine");
  const thief = await openBuildahBuilder({ stateDir: join(root, "thief") });
  const [said, held] = [
    await archived(thief, "said", () => buildWell(thief, formfile, mine)),
    await archived(thief, "held", () => buildWell(thief, formfile, context("theirs", "theirs"))),
  ];
  await thief.destroy();
  const configOf = (layout: string) =>
    JSON.parse(readFileSync(blob(layout, manifestOf(layout).config.digest), "utf8"));
  const bytes = Buffer.from(
    JSON.stringify({ ...configOf(held.layout), history: configOf(said.layout).history }),
  );
  const digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
  const archive = forged(
    held.layout,
    (manifest) => {
      manifest.config = { ...manifest.config, digest, size: bytes.length };
    },
    (layout) => writeFileSync(blob(layout, digest), bytes),
  );
  await buildWell(taker, { entrypoint: "x" });
  await taker.importImage(digest, once(archive), signal());
  const { image } = await buildWell(taker, formfile, mine);
  const disk = await taker.disk(image.digest, 1, signal());
  expect(await readDisk(disk, "/app/app")).toBe("mine");
  const { stdout } = spawnSync("debugfs", ["-R", "ls -p /", disk], { encoding: "utf8" });
  expect(stdout).not.toMatch(/[0-9a-f]{64}/);
  await taker.remove(image.digest);
});

it("the true archive is taken afterwards", async () => {
  expect(await take(readFileSync(`${wanted.layout}.tar`))).toBe("taken");
  expect((await taker.images()).map(({ digest }) => digest)).toContain(wanted.digest);
});
