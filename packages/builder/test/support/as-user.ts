// Run as a separate process: becomes an unprivileged user, builds what it is told, and prints the result as
// one line of JSON. Modules are loaded first, because the user may not be able to read them.
import { openBuildahBuilder } from "@formation-mcp/builder/buildah";
import { build } from "./build.ts";
import { leftoversOf, readDisk } from "./real-disk.ts";

export interface Task {
  uid: number;
  gid: number;
  options: Parameters<typeof openBuildahBuilder>[0];
  builds: Parameters<typeof build>[1][];
  limits?: Parameters<typeof build>[2];
  read?: string;
}

const task = JSON.parse(process.argv[2] ?? "") as Task;
process.setgroups?.([task.gid]);
process.setgid?.(task.gid);
process.setuid?.(task.uid);
const builder = await openBuildahBuilder(task.options);
await builder.recover();
const report = await builder.probe();
const results = [];
for (const formfile of task.builds) {
  const { image, error, text } = await build(builder, formfile, task.limits ?? {});
  const disk = image && task.read ? await builder.disk(image.digest, 1, AbortSignal.timeout(60_000)) : null;
  results.push({
    image,
    error: error?.toRecord() ?? null,
    text,
    read: disk && (await readDisk(disk, task.read ?? "")),
    disk,
  });
}
process.stdout.write(JSON.stringify({ report, results, left: await leftoversOf(task.options.stateDir) }));
process.exit(0);
