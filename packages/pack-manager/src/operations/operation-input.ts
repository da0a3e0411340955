// The input of an operation, by its kind.

import type { OperationInput } from "@formation-mcp/contract";

export type InputOf<Kind extends OperationInput["kind"]> = Extract<OperationInput, { kind: Kind }>;
