// Debian's Chromium with a wallet in the page (EIP-1193, EIP-6963) whose key is the test's; the key itself never enters the
// page. Whatever a page says to the console, and wherever it asks for anything, is noted.

import { randomUUID } from "node:crypto";
import type { KeyPair } from "@formation-mcp/auth/keys";
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";

const CHROMIUM = "/usr/bin/chromium";

export function openChromium(): Promise<Browser> {
  return chromium.launch({
    executablePath: CHROMIUM,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}

export interface Visit {
  page: Page;
  context: BrowserContext;
  /** Errors and warnings of the console, and exceptions of the page. */
  complaints: string[];
  /** Every origin that the page asked for anything. */
  origins: Set<string>;
}

/** A page of its own, without cookies of others; with a wallet if a secp256k1 key is given. */
export async function visit(browser: Browser, wallet?: KeyPair): Promise<Visit> {
  const context = await browser.newContext();
  if (wallet) await giveWallet(context, wallet);
  const page = await context.newPage();
  const complaints: string[] = [];
  const origins = new Set<string>();
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("request", (request) => origins.add(new URL(request.url()).origin));
  return { page, context, complaints, origins };
}

async function giveWallet(context: BrowserContext, key: KeyPair): Promise<void> {
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
      const info = { uuid: "00000000-0000-4000-8000-000000000000", name: "Test wallet", icon: "data:,", rdns: "example.wallet" };
      const announce = () => window.dispatchEvent(new CustomEvent("eip6963:announceProvider", { detail: Object.freeze({ info, provider }) }));
      window.addEventListener("eip6963:requestProvider", announce);
      announce();
    })()`,
  );
}
