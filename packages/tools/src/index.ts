// The table of tools as data: names, schemas, scopes and hints.
export {};
