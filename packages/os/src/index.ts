// What every room needs of the operating system: bounded child processes, atomic files, locks, SQLite files opened safely.
export {};
