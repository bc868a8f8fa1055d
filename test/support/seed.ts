/**
 * Of what a test makes at random. The same by default, so that a change is judged by the same inputs before and after it; the weekly
 * workflow gives others. Another run, or one that failed again: SEED=... npx vitest run ...
 */
export const SEED = Number(process.env.SEED || 1_566_087_582) % 2 ** 31;
