// Prints the settings that the programs of a state directory get from `test/shared.ts`, for tests outside of
// this directory.

import { sharedEnvironment } from "./shared.ts";

process.stdout.write(JSON.stringify(await sharedEnvironment(process.argv[2] ?? "")));
