// Separates buildah's own lines from the output of RUN lines. RUN output can imitate anything, so this only
// decides what is shown. Which step failed, and with which code, is read from the very end of stderr, where
// only buildah writes.

import type { Step } from "./image/containerfile.ts";

export interface OutputSink {
  onLine(stream: "stdout" | "stderr", line: string): void;
  onStep(step: Step, index: number): void;
}

/** What buildah reports about the step that failed. */
export interface Failure {
  step: Step;
  index: number;
  /** Null if the step failed without a program that ended, for example because there is no /bin/sh. */
  exitCode: number | null;
  reason: string;
}

const HIDDEN_LINES = [
  /^STEP \d+\/\d+: FROM /,
  /^COMMIT\b/,
  /^--> /,
  /^[0-9a-f]{64}$/,
  /^Successfully tagged localhost\/formation:/,
];

/** Reads the lines of one `buildah build`. */
export class BuildOutput {
  readonly #steps: readonly Step[];
  readonly #sink: OutputSink;
  #next = 0;
  #held: string[] | null = null;

  constructor(steps: readonly Step[], sink: OutputSink) {
    this.#steps = steps;
    this.#sink = sink;
  }

  /** The step that seems to be running, for the error of a build that is ended from outside. */
  get current(): Step | undefined {
    return this.#steps[Math.max(this.#next - 1, 0)];
  }

  line(stream: "stdout" | "stderr", line: string): void {
    if (stream === "stderr") this.#stderr(line);
    else this.#stdout(line);
  }

  /** Ends the output: shows the lines held back, unless they are buildah's own last error. */
  end(failure: Failure | null): void {
    const held = this.#held ?? [];
    this.#held = null;
    if (failure === null) for (const line of held) this.#sink.onLine("stderr", line);
  }

  #stdout(line: string): void {
    for (let index = this.#next; index < this.#steps.length; index++) {
      const step = this.#steps[index] as Step;
      const begins = `STEP ${index + 2}/${this.#steps.length + 1}: ${step.announced}`;
      const at = line.indexOf(begins);
      if (at < 0) continue;
      // The last line of a RUN without a newline at its end is on the same line as the next step.
      if (at > 0) this.#sink.onLine("stdout", line.slice(0, at));
      this.end(null);
      this.#next = index + 1;
      this.#sink.onStep(step, index);
      return;
    }
    const commit = this.#next === this.#steps.length ? line.search(/COMMIT localhost\/formation:\S+$/) : -1;
    if (commit > 0) this.#sink.onLine("stdout", line.slice(0, commit));
    else if (commit < 0 && !HIDDEN_LINES.some((pattern) => pattern.test(line)))
      this.#sink.onLine("stdout", line);
  }

  #stderr(line: string): void {
    if (this.#held) {
      this.#held.push(line);
      if (this.#held.length > 5000) this.end(null);
      return;
    }
    const at = line.indexOf('Error: building at STEP "');
    if (at < 0) {
      if (!/^time="[^"]*" level=[a-z]+ msg=/.test(line)) this.#sink.onLine("stderr", line);
      return;
    }
    if (at > 0) this.#sink.onLine("stderr", line.slice(0, at));
    this.#held = [line.slice(at)];
  }
}

/** Reads the step that failed from the end of buildah's stderr. Null if it names none of our steps. */
export function readFailure(steps: readonly Step[], stderr: string): Failure | null {
  const text = stderr.trimEnd();
  let latest = -1;
  let failure: Failure | null = null;
  for (const [index, step] of steps.entries()) {
    const marker = `building at STEP "${step.named}": `;
    const at = text.lastIndexOf(marker);
    if (at <= latest) continue;
    latest = at;
    const reason = text.slice(at + marker.length);
    const code = /(?:^|: )exit status (\d+)$/.exec(reason)?.[1];
    failure = { step, index, exitCode: code === undefined ? null : Number(code), reason };
  }
  return failure;
}
