/**
 * To be imported first by the program. Pulumi keeps the stack of every promise it makes, thousands of them, and has each
 * translated to the TypeScript that its own files once were: a third of what the program computes in an update that
 * changes nothing. Our files need no translation, for Node runs them as they are written.
 */
Object.assign(Error, { prepareStackTrace: undefined });
