// Who is calling: keys, signatures and principals.
export {};
