// Prints the settings that a state directory's programs get from `test/shared.ts`, for tests outside of this
// directory.

import { sharedEnvironment } from "./shared.ts";

process.stdout.write(JSON.stringify(await sharedEnvironment(process.argv[2] ?? "")));
