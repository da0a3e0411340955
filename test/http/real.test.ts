// @module-tag buildah
// @module-tag qemu
// @module-tag bundles

// The whole flow once with nothing faked: a stock client registers itself, a person signs in and consents in
// Chromium, buildah builds, QEMU boots, and the VM answers.

import { generateKey } from "@formation-mcp/auth/keys";
import { expect, test } from "vitest";
import { openChromium } from "../support/http/browser.ts";
import { openGround } from "../support/http/ground.ts";
import { connectHost, HostProvider } from "../support/http/host.ts";
import { ALL_SCOPES, admit } from "../support/http/people.ts";
import { newVisitor } from "../support/http/sign-in.ts";
import { shipsAPage } from "../support/http/story.ts";

test("a person's host builds and ships a VM over OAuth, for real", async () => {
  const ground = await openGround({ FORMATION_DRIVERS: "real" });
  const browser = await openChromium();
  try {
    const key = generateKey("secp256k1");
    await admit(ground.url, ground.admin, key, ALL_SCOPES);
    const visitor = await newVisitor(browser, key);
    const peer = await connectHost("v2", `${ground.url}/mcp`, await HostProvider.open(), visitor.goes);
    await shipsAPage(peer, "for-real", 8080);
    expect(visitor.asked.length).toBeGreaterThan(1);
    await peer.close();
  } finally {
    await browser.close();
    await ground.close();
  }
});
