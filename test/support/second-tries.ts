// Lists, at the end of a run, the tests that needed a second try. Each is a bug to look at, even if it
// passed.

import type { Reporter, TestModule } from "vitest/node";

export class SecondTries implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const retried = modules.flatMap((module) =>
      [...module.children.allTests()]
        .filter((test) => (test.diagnostic()?.retryCount ?? 0) > 0)
        .map((test) => `  ${module.relativeModuleId} > ${test.fullName} (${test.result().state})`),
    );
    const summary = retried.length === 0 ? "none" : `\n${retried.join("\n")}`;
    process.stdout.write(`Second tries: ${summary}\n`);
  }
}
