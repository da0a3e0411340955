// Opens the real driver, also in a process of its own.
import { openBuildahBuilder } from "@formation-mcp/builder/buildah";

export const open = (stateDir: string) => openBuildahBuilder({ stateDir });
