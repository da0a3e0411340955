// From the call of pack_ship to the first HTTP 200 of the VM, through the bundled server and its worker;
// compared with QEMU started by hand with the same command, kernel, initramfs and disk.

import { type Bare, readyBare, templateOf } from "./bare-qemu.ts";
import { untilOk } from "./http.ts";
import { print, progress } from "./report.ts";
import type { Scope } from "./scope.ts";
import { openSite } from "./site.ts";
import { pairs, ratioOfMedians, timed } from "./statistics.ts";

const PAIRS = 20;

export async function benchShip(scope: Scope): Promise<void> {
  const site = await openSite(scope);
  await site.ship("first"); // fetches the kernel and makes the disk
  const template = templateOf(site.machinePid(), scope);
  await site.remove("first");
  let number = 0;
  const seen = await pairs(
    PAIRS,
    async () => {
      const name = `web-${++number}`;
      const took = await timed(async () => untilOk(await site.ship(name), scope.signal));
      await site.remove(name);
      return took;
    },
    async () => {
      const machine = await readyBare(template, scope);
      let bare: Bare | undefined;
      const took = await timed(async () => {
        bare = await machine.start();
        await untilOk(bare.url, scope.signal);
      });
      await bare?.end();
      return took;
    },
    progress("ship", PAIRS),
  );
  print({
    name: "ship: pack_ship → first HTTP 200",
    limit: { atMost: 1.15 },
    judge: "low",
    result: ratioOfMedians(seen),
    against: "bare QEMU: same command, kernel, initramfs and disk",
  });
}
