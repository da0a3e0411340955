// Tells buildah's own lines from those of the RUN lines it runs. RUN output may imitate anything, so this decides only
// what is shown; which step failed and with what code is read from the very end of stderr, where only buildah writes.

import type { Step } from "./image/containerfile.ts";

export interface OutputSink {
  onLine(stream: "stdout" | "stderr", line: string): void;
  onStep(step: Step, index: number): void;
}

/** What buildah said about the step that failed. */
export interface Failure {
  step: Step;
  index: number;
  /** Null when the step failed without a program that ended, e.g. because there is no /bin/sh. */
  exitCode: number | null;
  reason: string;
}

const NOISE = [
  /^STEP \d+\/\d+: FROM /,
  /^COMMIT\b/,
  /^--> /,
  /^[0-9a-f]{64}$/,
  /^Successfully tagged localhost\/formation:/,
];

/** Follows one `buildah build` through its lines. */
export class BuildOutput {
  readonly #steps: readonly Step[];
  readonly #sink: OutputSink;
  #next = 0;
  #held: string[] | null = null;

  constructor(steps: readonly Step[], sink: OutputSink) {
    this.#steps = steps;
    this.#sink = sink;
  }

  /** The step that seems to run, for the error of a build that was ended from outside. */
  get current(): Step | undefined {
    return this.#steps[Math.max(this.#next - 1, 0)];
  }

  line(stream: "stdout" | "stderr", line: string): void {
    if (stream === "stderr") this.#stderr(line);
    else this.#stdout(line);
  }

  /** The build ended: shows what was held back, unless it is buildah's own last error. */
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
      // A RUN that ends without a newline shares its last line with the next step.
      if (at > 0) this.#sink.onLine("stdout", line.slice(0, at));
      this.end(null);
      this.#next = index + 1;
      this.#sink.onStep(step, index);
      return;
    }
    const commit = this.#next === this.#steps.length ? line.search(/COMMIT localhost\/formation:\S+$/) : -1;
    if (commit > 0) this.#sink.onLine("stdout", line.slice(0, commit));
    else if (commit < 0 && !NOISE.some((pattern) => pattern.test(line))) this.#sink.onLine("stdout", line);
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

/** Reads the step that failed from the end of buildah's stderr; null if it says nothing about a step of ours. */
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
