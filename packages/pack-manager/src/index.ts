// What a worker does: claim, build, ship, control, report, reconcile.
export {};
