/** What a hand-over is asked for in tests of its provider alone, without a stack. */
import type { HandOverInputs } from "../../components/handover/handover.ts";

type Given = Pick<HandOverInputs, "stack" | "folder" | "network" | "container" | "logins" | "maxConnections">;

/** Inputs of the hand-over's resource, with the settings' defaults but for a few. */
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
