// Opens the database named in its first argument as soon as the file named in its second is there, and adds
// ten rows.
import { existsSync } from "node:fs";
import { waitFor } from "@formation-mcp/os";
import { openSqlite, retryBusy } from "@formation-mcp/os/sqlite";

const [, , path = "", gate = ""] = process.argv;
process.stdout.write("ready\n");
await waitFor(() => existsSync(gate), { timeoutMs: 60_000, everyMs: 2, what: "the gate" });
const database = await openSqlite(path);
await retryBusy(() => database.exec("CREATE TABLE IF NOT EXISTS rows (pid INTEGER, n INTEGER)"), 60_000);
for (let n = 0; n < 10; n++) {
  await retryBusy(() => database.prepare("INSERT INTO rows VALUES (?, ?)").run(process.pid, n), 60_000);
}
database.close();
