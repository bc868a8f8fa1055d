/**
 * Disables source maps; the program imports this first. Pulumi captures the stack trace of every promise that it creates, thousands of
 * them, and maps each to its TypeScript sources, which takes a third of the program's processor time in an update that changes nothing.
 * This project's files need no source maps, because Node.js runs them as they are.
 */
Object.assign(Error, { prepareStackTrace: undefined });
