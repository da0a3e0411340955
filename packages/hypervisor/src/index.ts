// A disk becomes a running machine.
export {};
