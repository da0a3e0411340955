// Tells a service manager that the program is ready, leaves, or still lives (sd_notify(3)). systemd takes
// these messages on a Unix datagram socket, which Node does not have, so systemd-notify sends them
// (NotifyAccess=all).

import { type Logger, silentLogger } from "@formation-mcp/contract";
import { plainEnvironment, run } from "@formation-mcp/os";

export interface ServiceManager {
  ready(status: string): Promise<void>;
  leaving(): Promise<void>;
  close(): void;
}

/**
 * Never throws. Without a service manager or systemd-notify nothing is sent, and the program works as usual.
 */
export function createServiceManager(
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
    // The usual PATH comes last, because systemd-notify may only be in the operator's.
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
