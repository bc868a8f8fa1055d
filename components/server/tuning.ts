/** PostgreSQL's settings as a function of what the container may use. */

/** What the container is limited to, and how many sessions it must serve. */
export interface Limits {
  /** Memory, MiB. */
  memoryMiB: number;
  cpus: number;
  maxConnections: number;
}

/** What follows from the limits. */
export interface Tuning {
  /** Settings for the command line, name to value, in PostgreSQL's own units. */
  settings: Record<string, string>;
  /** Size of the container's /dev/shm, MiB: parallel workers share memory there, and Docker's 64 MiB are too few. */
  shmMiB: number;
}

const PARALLEL_FROM_CPUS = 4;
const DEFAULT_WORKERS = 8;

/**
 * The rules of PGTune for its "web" type, on solid-state storage (github.com/le0pard/pgtune), with the container's limits in
 * place of the machine's. jit is off, as it costs more than it brings on short queries.
 */
export function tune({ memoryMiB, cpus, maxConnections }: Limits): Tuning {
  const sharedBuffers = Math.floor(memoryMiB / 4);
  const maintenanceWorkMem = Math.min(Math.floor(memoryMiB / 16), 8192);
  const workers = cpus >= PARALLEL_FROM_CPUS ? cpus : DEFAULT_WORKERS;
  // A session may hold a few sorts or hashes at once: three is PGTune's reckoning.
  const workMem = Math.max(Math.floor((memoryMiB - sharedBuffers) / ((maxConnections + workers) * 3)), 4);
  // Close to 16 MB, the size of a WAL segment, PGTune takes the whole of it.
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

/** The settings as arguments of the server's command line. */
export function asArguments(settings: Record<string, string>): string[] {
  return Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
}
