// The ground that tests of builders stand on where no public registry can be reached: a registry on loopback and a Debian
// base made from its packages.

export { debianBase, debianMirror, debianRegistry } from "./testing-debian.ts";
export { type Registry, startRegistry } from "./testing-registry.ts";
