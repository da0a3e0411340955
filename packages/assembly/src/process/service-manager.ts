// What a service manager is told: that we are ready, that we leave, and that we still live. systemd takes that on a
// socket of a kind that Node does not have; its own systemd-notify speaks for us (sd_notify(3), NotifyAccess=all).

import { type Logger, silentLogger } from "@formation-mcp/contract";
import { plainEnvironment, run } from "@formation-mcp/os";

export interface ServiceManager {
  ready(status: string): Promise<void>;
  leaving(): Promise<void>;
  close(): void;
}

/** Never throws: who was not started by a service manager, or has no systemd-notify, works all the same. */
export function serviceManager(
  logger: Logger = silentLogger,
  environment: Record<string, string | undefined> = process.env,
): ServiceManager {
  const socket = environment["NOTIFY_SOCKET"];
  const everyMs = Number(environment["WATCHDOG_USEC"] ?? 0) / 1000 / 2;
  const ours = [undefined, "", String(process.pid)].includes(environment["WATCHDOG_PID"]);
  let timer: NodeJS.Timeout | undefined;
  const tell = async (...words: string[]) => {
    if (!socket) return;
    const env = plainEnvironment({ NOTIFY_SOCKET: socket });
    // An operator's PATH, where the system's own has no such program.
    if (environment["PATH"]) env["PATH"] = `${environment["PATH"]}:${env["PATH"]}`;
    try {
      const { code, stderr } = await run("systemd-notify", words, { timeoutMs: 10_000, env });
      if (code !== 0) throw new Error(stderr.trim());
    } catch (error) {
      logger.log("warn", "The service manager could not be told.", { words: words.join(" "), error });
    }
  };
  return {
    async ready(status) {
      await tell("--ready", `--status=${status}`);
      if (everyMs > 0 && ours) timer ??= setInterval(() => void tell("WATCHDOG=1"), everyMs).unref();
    },
    leaving: () => tell("STOPPING=1", "--status=leaving"),
    close: () => clearInterval(timer),
  };
}
