// What one owner may have at the same time. Null means no limit.

export interface Quota {
  /** Sum over all instances that are not deleted. */
  vcpus: number | null;
  memory_mb: number | null;
  disk_gb: number | null;
  instances: number | null;
  /** Builds that are queued or running at the same time. */
  builds: number | null;
  operations_per_minute: number | null;
}

/** No limit on anything. */
export const NO_QUOTA: Quota = {
  vcpus: null,
  memory_mb: null,
  disk_gb: null,
  instances: null,
  builds: null,
  operations_per_minute: null,
};

/** What one owner has now. */
export interface Usage {
  vcpus: number;
  memory_mb: number;
  disk_gb: number;
  instances: number;
  builds: number;
}
