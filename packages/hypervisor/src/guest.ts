// What is said to a guest and heard from it, for tools that boot or watch one themselves: the archive that it
// starts from, its reports, its log lines. Everything heard is hostile: whoever is root in the guest writes
// what he likes.

export { type GuestSettings, guestConfig, quote } from "./guest/config.ts";
export { type CpioEntry, cpio } from "./guest/cpio.ts";
export { emptyReport, type GuestReport, parseStatus, problemText } from "./guest/status-report.ts";
export { LINES_PER_SECOND, LineRate, LineSplitter } from "./logs/lines.ts";
export { withoutControls } from "./logs/tail.ts";
