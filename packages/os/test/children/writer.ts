// Writes the file named in its first argument over and over, one letter a time, until it is killed.
import { writeFileAtomic } from "@formation-mcp/os";

const path = process.argv[2] ?? "";
process.stdout.write("ready\n");
for (let turn = 0; ; turn++) writeFileAtomic(path, (turn % 2 ? "a" : "b").repeat(300_000));
