// What each tool does: scope, ownership, records, operations.
export {};
