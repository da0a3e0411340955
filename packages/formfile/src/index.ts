// The Formfile language: schema, JSON and YAML parsing, issues with path, line and column.
export {};
