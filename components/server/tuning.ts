/** Derives PostgreSQL's settings from the container's limits. */

/** The container's limits, and the number of sessions. */
export interface Limits {
  /** Memory, MiB. */
  memoryMiB: number;
  cpus: number;
  maxConnections: number;
}

/** Settings derived from the limits. */
export interface Tuning {
  /** Settings for the command line, name to value, in PostgreSQL's own units. */
  settings: Record<string, string>;
  /** Size of the container's /dev/shm in MiB. Parallel workers share memory there, and Docker's default of 64 MiB is too small. */
  shmMiB: number;
}

const PARALLEL_FROM_CPUS = 4;
const DEFAULT_WORKERS = 8;

/**
 * Applies the rules of PGTune for the type "web" on solid-state storage (github.com/le0pard/pgtune), with the container's limits in place
 * of the machine's. jit is off, because it costs more than it saves on short queries.
 */
export function tune({ memoryMiB, cpus, maxConnections }: Limits): Tuning {
  const sharedBuffers = Math.floor(memoryMiB / 4);
  const maintenanceWorkMem = Math.min(Math.floor(memoryMiB / 16), 8192);
  const workers = cpus >= PARALLEL_FROM_CPUS ? cpus : DEFAULT_WORKERS;
  // A session may run several sorts or hashes at once; PGTune assumes three.
  const workMem = Math.max(Math.floor((memoryMiB - sharedBuffers) / ((maxConnections + workers) * 3)), 4);
  // Close to 16 MB, the size of a WAL file, PGTune rounds up to it.
  const walBuffers = sharedBuffers * 0.03 > 14 ? 16 : Math.max(Math.floor(sharedBuffers * 0.03), 1);
  const settings: Record<string, string> = {
    max_connections: String(maxConnections),
    shared_buffers: `${sharedBuffers}MB`,
    effective_cache_size: `${Math.floor((memoryMiB * 3) / 4)}MB`,
    maintenance_work_mem: `${maintenanceWorkMem}MB`,
    work_mem: `${workMem}MB`,
    wal_buffers: `${walBuffers}MB`,
    random_page_cost: "1.1",
    effective_io_concurrency: "200",
    jit: "off",
    min_wal_size: "1GB",
    max_wal_size: "4GB",
  };
  if (cpus >= PARALLEL_FROM_CPUS) {
    settings.max_worker_processes = String(cpus);
    settings.max_parallel_workers = String(cpus);
    settings.max_parallel_workers_per_gather = String(Math.min(Math.ceil(cpus / 2), 4));
    settings.max_parallel_maintenance_workers = String(Math.min(Math.ceil(cpus / 2), 4));
  }
  return { settings, shmMiB: Math.max(2 * maintenanceWorkMem, 128) };
}

/** Returns the settings as arguments of the server's command line. */
export function asArguments(settings: Record<string, string>): string[] {
  return Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
}
