// The doctor: what this machine has, lacks and enforces.

export { type DoctorReport, examine } from "./commands/doctor.ts";
