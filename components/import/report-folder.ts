/** Where a stack's reports are written, from the project's folder. */
export const reportFolder = (stack: string): string => (stack === "dev" ? "reports" : `reports/${stack}`);
