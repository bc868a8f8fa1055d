/** Words and names that this project no longer uses, with what to write. docs/glossary.md explains. */

interface Retired {
  pattern: RegExp;
  instead: string;
}

const NAME_ACTOR = "name the actor: the import, the server, you, another session";
const RETIRED: readonly Retired[] = [
  { pattern: /\bwho(m)?ever\b/gi, instead: NAME_ACTOR },
  {
    pattern: /\b(nobody|somebody|anybody)\b(?!:[x/])/gi,
    instead: `${NAME_ACTOR}; or "no one" of a known group, such as "no session"`,
  },
  { pattern: /(?<![Tt]here )\b(is|are|was|were) none\b/g, instead: 'write "there is no ...", "is not a ..."' },
  {
    pattern: /\b(is|are|was|were|be) told\b/gi,
    instead: 'name who reports what to whom: "the error names ...", "the import reports ..."',
  },
  {
    pattern:
      /\bbehind (it|which|that|them|an? (import|failure|run|failed)|a failed|the (gap|swap|run|import|last|first))\b/gi,
    instead: '"after", for time',
  },
  { pattern: /\b(to be|be) had\b|\bhad back\b/gi, instead: '"can be restored"' },
  { pattern: /\ball the while\b/gi, instead: '"still", "at any time"' },
  { pattern: /\bin the moment (of|in)\b/gi, instead: '"when"' },
  { pattern: /\bsave[- ]points?\b/gi, instead: '"snapshot"' },
  { pattern: /\baside\b/gi, instead: '"staging database", "scratch server", or what it is' },
  { pattern: /\bdue since\b/gi, instead: '"overdue"' },
  { pattern: /\bby the like\b|\band the like\b/gi, instead: "name the others" },
  {
    pattern:
      /\b(Holdings|Pulse|shutDoor|openDoor|makeAside|clearAside|asideName|refuseStrangers|BackupsBegun|lookAround|lookInto|checkAbout|whatIs|takeBack|inBackups|goOn)\b/g,
    instead: "a retired name: docs/glossary.md",
  },
];

/** Finds what is retired in a text. Pure. */
export function findRetired(text: string): { line: number; word: string; instead: string }[] {
  return text
    .split("\n")
    .flatMap((content, index) =>
      RETIRED.flatMap(({ pattern, instead }) =>
        [...content.matchAll(pattern)].map(([word]) => ({ line: index + 1, word, instead })),
      ),
    );
}
