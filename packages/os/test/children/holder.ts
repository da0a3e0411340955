// Takes the lock named in its first argument, says whether it got it, and holds it until it is killed.
import { tryLock } from "@formation-mcp/os/sqlite";

const lock = await tryLock(process.argv[2] ?? "");
process.stdout.write(lock ? "held\n" : "taken\n");
setInterval(() => lock, 60_000);
