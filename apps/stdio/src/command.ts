// The interface of a subcommand.

export interface Command {
  /** The text of `--help`, with an example. */
  help: string;
  /** Runs it with the words after its name, and returns the exit code. */
  run(args: string[]): Promise<number>;
}
