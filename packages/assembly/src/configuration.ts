// The settings alone: what exists, and which variables are unknown.

export { unknownVariables, VARIABLES } from "./settings/variables.ts";
