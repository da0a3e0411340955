import { packDirectory, unpackContext } from "@formation-mcp/artifacts/context";
import { openDirectoryArtifacts } from "@formation-mcp/artifacts/directory";

const artifacts = await openDirectoryArtifacts({ path: "/var/lib/example/artifacts" });
const limits = { maxBytes: 512 * 1024 * 1024, maxFiles: 50_000 };
const packed = await packDirectory({ dir: ".", include: ["src"], allow: [process.cwd()], ...limits });
const { digest } = await artifacts.put(packed.stream, { maxBytes: limits.maxBytes });
await unpackContext(await artifacts.get(digest), "/var/lib/example/empty", limits);
await artifacts.appendLog("bld_0a", [
  { at: Date.now(), stream: "build", text: `packed ${packed.files} files` },
]);
const { lines } = await artifacts.readLog("bld_0a", { tail: 20, grep: "packed", maxBytes: 20_000 });
