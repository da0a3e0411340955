// Every noun that crosses a process: records, ids, states, messages, errors and limits.
export {};
