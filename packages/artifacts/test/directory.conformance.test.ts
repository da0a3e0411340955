import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openDirectoryArtifacts } from "@formation-mcp/artifacts/directory";
import { describeArtifacts } from "@formation-mcp/artifacts/testing/conformance";

describeArtifacts("a directory", async () => {
  const path = await mkdtemp(join(tmpdir(), "artifacts-"));
  return {
    open: () => openDirectoryArtifacts({ path }),
    damage: async (digest) => {
      const hex = digest.slice("sha256:".length);
      await writeFile(join(path, "sha256", hex.slice(0, 2), hex), "x", { flag: "r+" });
      await writeFile(join(path, "sha256", hex.slice(0, 2), hex), "another byte at the end", { flag: "a" });
    },
    close: () => rm(path, { recursive: true }),
  };
});
