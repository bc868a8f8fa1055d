/** Of what a test makes at random. Printed by a failing run, which is repeated with it: SEED=... npx vitest run ... */
export const SEED = process.env.SEED ? Number(process.env.SEED) : Math.floor(Math.random() * 2 ** 31);
