// Debian's Chromium with a wallet in the page (EIP-1193). The test has the wallet's key; it never enters the
// page.

import { randomUUID } from "node:crypto";
import type { KeyPair } from "@formation-mcp/auth/keys";
import { type Browser, type BrowserContext, chromium } from "playwright-core";

const CHROMIUM = "/usr/bin/chromium";

export function openChromium(): Promise<Browser> {
  return chromium.launch({
    executablePath: CHROMIUM,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-dev-shm-usage",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}

/** Puts a wallet into every page of a context. */
export async function giveWallet(context: BrowserContext, key: KeyPair): Promise<void> {
  const name = `sign_${randomUUID().replaceAll("-", "")}`;
  await context.exposeFunction(name, (hex: string) => {
    const message = hex.startsWith("0x") ? Buffer.from(hex.slice(2), "hex") : Buffer.from(hex);
    return `0x${Buffer.from(key.sign(message)).toString("hex")}`;
  });
  await context.addInitScript(
    `(() => {
      const address = ${JSON.stringify(key.address)};
      const provider = {
        on() {}, removeListener() {},
        async request({ method, params = [] }) {
          if (method === "eth_requestAccounts" || method === "eth_accounts") return [address];
          if (method === "eth_chainId") return "0x1";
          if (method === "personal_sign") return window[${JSON.stringify(name)}](params[0]);
          throw Object.assign(new Error("This wallet does not know " + method), { code: 4200 });
        },
      };
      Object.defineProperty(window, "ethereum", { value: provider });
    })()`,
  );
}
