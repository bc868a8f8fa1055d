/** Returns the folder of a stack's reports, relative to the project's folder. */
export const reportFolder = (stack: string): string => (stack === "dev" ? "reports" : `reports/${stack}`);
