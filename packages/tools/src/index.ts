// The table of tools as data.
export {};
