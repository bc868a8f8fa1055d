/** The report's page in a real browser: light and dark, on a narrow screen, by keyboard alone, and without any request. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import axe, { type AxeResults } from "axe-core";
import { type Browser, chromium, type Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { headline, reportPage } from "../../components/import/report/page.ts";
import type { Report } from "../../components/import/types.ts";
import { browserPath } from "./browser.ts";
import { type Colour, focus, misfits, type PaintedText, paintedTexts, stops } from "./probes.ts";
import { REPORTS } from "./reports.ts";

type Verdict = Report["verdict"];
const VERDICTS = Object.keys(REPORTS) as Verdict[];
const SCHEMES = ["light", "dark"] as const;

/** Minimum contrast of text and of other parts (WCAG 2.2, 1.4.3 and 1.4.11). */
const LEAST_TEXT = 4.5;
const LEAST_OTHER = 3;

/** Windows, in CSS pixels. */
const WIDE = { width: 1280, height: 720 };
const NARROW = { width: 360, height: 640 };
/** The window of a common phone. */
const PHONE = { width: 390, height: 844 };
/** As high as the longest page, so that all of it is in view. */
const WHOLE = { width: 1280, height: 6000 };

/** Returns the relative luminance as WCAG 2.2 defines it. */
function luminance(colour: Colour): number {
  const linear = colour.map((part) =>
    part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4,
  );
  const [red = 0, green = 0, blue = 0] = linear;
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}
function contrast(one: Colour, other: Colour): number {
  const [dark = 0, light = 0] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
}

let browser: Browser;
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "sectorwars-page-"));
  await Promise.all(
    VERDICTS.map((verdict) => writeFile(join(folder, `${verdict}.html`), reportPage(REPORTS[verdict]))),
  );
  // Playwright's default, no sandbox, is needed: Chromium's sandbox does not work for root and in most containers.
  browser = await chromium.launch({ executablePath: browserPath() });
});

afterAll(async () => {
  await browser?.close();
  await rm(folder, { recursive: true, force: true });
});

const urlOf = (verdict: Verdict) => pathToFileURL(join(folder, `${verdict}.html`)).href;

/** A tab with a report's page, which its tests share, and the browser's requests and messages. */
interface Tab {
  page: Page;
  requests: string[];
  messages: string[];
}

async function openTab(verdict: Verdict): Promise<Tab> {
  const page = await browser.newPage();
  const tab: Tab = { page, requests: [], messages: [] };
  page.on("request", (request) => tab.requests.push(request.url()));
  page.on("pageerror", (error) => tab.messages.push(error.message));
  page.on("console", (message) => tab.messages.push(`${message.type()}: ${message.text()}`));
  await page.goto(urlOf(verdict));
  return tab;
}

const openDetails = (page: Page) =>
  page.evaluate(() => {
    for (const details of document.querySelectorAll("details")) details.open = true;
  });

/** Reloads the page in a window of this size, which resets focus, details and scrolling. */
async function fresh({ page }: Tab, window: typeof WIDE, scheme: (typeof SCHEMES)[number] = "light"): Promise<Page> {
  await page.setViewportSize(window);
  await page.emulateMedia({ colorScheme: scheme });
  await page.reload();
  return page;
}

describe.each(VERDICTS)("the page of a report with the verdict %s", (verdict) => {
  const { word, rest } = headline(REPORTS[verdict]);
  let tab: Tab;

  beforeAll(async () => {
    tab = await openTab(verdict);
  });
  afterAll(() => tab?.page.close());

  test("shows its verdict first, even on a narrow screen", async () => {
    for (const window of [WIDE, NARROW]) {
      const page = await fresh(tab, window);
      const first = page.locator("h1, h2, h3, table, dl, nav, pre").first();
      expect(await first.innerText()).toBe(`${word}: ${rest}`);
      const { y = -1, height = 0 } = (await first.boundingBox()) ?? {};
      expect(y).toBeGreaterThanOrEqual(0);
      expect(y + height).toBeLessThan(window.height / 2);
    }
  });

  test.each(SCHEMES)("has enough contrast for every text in the %s scheme", async (scheme) => {
    const page = await fresh(tab, WHOLE, scheme);
    await openDetails(page);
    const texts = await page.evaluate(paintedTexts);
    expect(texts.map(({ text }) => text)).toEqual(expect.arrayContaining(["Database import", `${word}:`]));
    const contrasts = texts.map(({ text, colour, ground }) => ({ text, contrast: contrast(colour, ground) }));
    expect(contrasts.filter((found) => found.contrast < LEAST_TEXT)).toEqual([]);
    // The text is darker than the page in the light scheme only.
    const { colour, ground } = texts[0] as PaintedText;
    expect(luminance(colour) < luminance(ground)).toBe(scheme === "light");
  });

  // These two have every part that a page can have. The others are left out, because axe is slow.
  const checkers = verdict === "selected" || verdict === "different" ? ["axe"] : [];
  test.each(checkers)("passes the checks of %s", async () => {
    const page = await fresh(tab, WIDE);
    await openDetails(page);
    await page.evaluate(axe.source);
    // Contrasts are measured above, including those of the drawing, which axe cannot check.
    const { violations, passes } = await page.evaluate<AxeResults>(
      `axe.run({ rules: { "color-contrast": { enabled: false } } })`,
    );
    expect(violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(", ")}`)).toEqual([]);
    expect(passes.map(({ id }) => id)).toEqual(expect.arrayContaining(["heading-order", "region"]));
  });

  test("fits windows that are 360 and 1280 pixels wide", async () => {
    for (const window of [NARROW, WIDE]) {
      const page = await fresh(tab, window);
      expect(await page.evaluate(misfits)).toEqual([]);
      await openDetails(page);
      expect(await page.evaluate(misfits)).toEqual([]);
    }
  });

  test("has a language, a title, headings in order, and table headers", async () => {
    const { page } = tab;
    expect(await page.title()).toBe(`${word}: ${rest}`);
    expect(await page.locator("html").getAttribute("lang")).toBe("en");
    const levels = await page
      .locator("h1, h2, h3, h4, h5, h6")
      .evaluateAll((headings) => headings.map(({ localName }) => Number(localName.slice(1))));
    expect(levels.filter((level) => level === 1)).toEqual([levels[0]]);
    for (const [index, level] of levels.entries()) expect(level - (levels[index - 1] ?? 0)).toBeLessThanOrEqual(1);
    const bare = await page
      .locator("table")
      .evaluateAll((tables) =>
        (tables as HTMLTableElement[])
          .filter(
            ({ caption, tHead, tBodies }) =>
              !caption?.textContent ||
              [...(tHead?.rows[0]?.cells ?? [])].some(({ scope, textContent }) => scope !== "col" || !textContent) ||
              [...(tBodies[0]?.rows ?? [])].some(({ cells }) => cells[0]?.scope !== "row"),
          )
          .map(({ outerHTML }) => outerHTML),
      );
    expect(bare).toEqual([]);
  });

  // The ring has the same colour in all pages, so one page is enough for the dark scheme.
  const schemes = verdict === "selected" ? SCHEMES : (["light"] as const);
  test.each(schemes)("lets the keyboard reach every control, and shows the focus in the %s scheme", async (scheme) => {
    const page = await fresh(tab, WIDE, scheme);
    const expected = await page.evaluate(stops);
    expect(expected.length).toBeGreaterThan(7);
    for (const stop of expected) {
      await page.keyboard.press("Tab");
      const at = await page.evaluate(focus);
      expect(at).toMatchObject({ stop, cut: false });
      expect(at.thick).toBeGreaterThanOrEqual(2);
      expect(at.ring && contrast(at.ring, at.ground), stop).toBeGreaterThanOrEqual(LEAST_OTHER);
    }
  });

  test("opens and closes its details with Enter and Space", async () => {
    const page = await fresh(tab, WIDE);
    // One in the timeline, and one in a table.
    for (const summary of (await page.locator("summary").all()).slice(0, 2)) {
      await summary.focus();
      const states: boolean[] = [];
      for (const key of ["Enter", "Space", "Space", "Enter"]) {
        await page.keyboard.press(key);
        states.push(await summary.evaluate(({ parentElement }) => (parentElement as HTMLDetailsElement).open));
      }
      expect(states).toEqual([true, false, true, false]);
    }
  });

  test("lets the keyboard scroll boxes that are wider than a narrow screen", async () => {
    const page = await fresh(tab, NARROW);
    const boxes = await page.locator(".scroll:visible").all();
    let scrolled = 0;
    for (const box of boxes) {
      if (!(await box.evaluate(({ scrollWidth, clientWidth }) => scrollWidth > clientWidth))) continue;
      await box.focus();
      await page.keyboard.press("ArrowRight");
      await expect.poll(() => box.evaluate(({ scrollLeft }) => scrollLeft)).toBeGreaterThan(0);
      scrolled++;
    }
    // At least the timeline scrolls, and the tables if there are any.
    expect(scrolled).toBeGreaterThanOrEqual(REPORTS[verdict].tables.length > 0 ? 2 : 1);
    expect(await page.evaluate(() => window.scrollX)).toBe(0);
  });

  test("shows every table's and sequence's verdict on a phone without horizontal scrolling", async () => {
    const page = await fresh(tab, PHONE);
    const { tables, sequences } = REPORTS[verdict];
    const badges = await page.locator("tbody .badge").all();
    expect(badges.length).toBe(tables.length + sequences.length);
    const hidden: string[] = [];
    for (const badge of badges) {
      const seen = await badge.evaluate((element) => {
        const room = element.closest(".scroll")?.getBoundingClientRect();
        const { left, right } = element.getBoundingClientRect();
        return room !== undefined && left >= room.left && right <= Math.min(room.right, window.innerWidth);
      });
      if (!seen) hidden.push(await badge.innerText());
    }
    expect(hidden).toEqual([]);
  });

  test("names the next steps, as complete commands", async () => {
    const page = await fresh(tab, PHONE);
    const steps = await page.locator(".steps code").allInnerTexts();
    const isDone = verdict === "identical" || verdict === "selected";
    expect(steps).toEqual(
      expect.arrayContaining(
        isDone
          ? ["./db url --stack neon", "./db psql --stack neon", "./db verify --stack neon", "docs/import.md"]
          : ["./db doctor --stack neon", "pulumi up --stack neon", "docs/import.md"],
      ),
    );
  });

  test("links from its contents to every section", async () => {
    const page = await fresh(tab, WIDE);
    const sections = await page.locator("h2:not(.hidden)").allInnerTexts();
    const links = await page.locator("nav a").all();
    const names = await Promise.all(links.map((link) => link.evaluate(({ firstChild }) => firstChild?.textContent)));
    expect(names.map((name) => name?.trim())).toEqual(sections);
    for (const link of links) {
      await link.press("Enter");
      const target = page.locator((await link.getAttribute("href")) as string);
      await expect(target.evaluate((element) => element.getBoundingClientRect().top)).resolves.toBeLessThan(
        WIDE.height,
      );
    }
  });

  // This test is last, so that it covers all tests before it.
  test("requested only its own file, and logged nothing to the console", async () => {
    await tab.page.waitForLoadState("networkidle");
    expect([...new Set(tab.requests.map((url) => url.replace(/#.*/, "")))]).toEqual([urlOf(verdict)]);
    expect(tab.messages).toEqual([]);
  });
});
