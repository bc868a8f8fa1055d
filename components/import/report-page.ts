export const reportPage = (report: unknown): string => `<pre>${JSON.stringify(report)}</pre>`;
