/** Inputs for tests of the hand-over's provider without a stack. */
import type { HandOverInputs } from "../../components/handover/handover.ts";

type Given = Pick<HandOverInputs, "stack" | "folder" | "network" | "container" | "logins" | "maxConnections">;

/** Returns inputs of the hand-over's resource, mostly with the settings' defaults. */
export const handOverInputs = (given: Given): HandOverInputs => ({
  file: ".env",
  composeFiles: [],
  service: "database",
  networkKey: "sectorwars-network",
  superuserServices: ["region-manager"],
  superuser: { user: "postgres", password: "superpw" },
  alias: "database",
  port: 15500,
  image: "some-image:15",
  dockerHost: "unix:///nowhere/docker.sock",
  target: "local",
  driver: "none",
  pools: { services: 0, workers: 1, size: 5, overflow: 10 },
  poolTimeout: 30,
  ...given,
});
