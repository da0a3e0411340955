// What a subcommand is.

export interface Command {
  /** What `--help` says, an example included. */
  help: string;
  /** Does it, with the words after its name, and gives the program's exit code. */
  run(args: string[]): Promise<number>;
}
