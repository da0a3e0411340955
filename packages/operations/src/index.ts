// The one database: operations, builds, deployments, instances and nodes.
export {};
