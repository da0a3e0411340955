// Opens the fake driver, also in a process of its own.
import { openFakeBuilder } from "@formation-mcp/builder/fake";

export const open = (stateDir: string) => openFakeBuilder({ stateDir });
