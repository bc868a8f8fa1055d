/**
 * Functions that examine a page from inside. Each is sent to the browser as text, so it can use nothing outside of itself.
 */

/** Red, green, blue, each 0 to 255. */
export type Colour = readonly [number, number, number];

/** A painted text. */
export interface PaintedText {
  text: string;
  colour: Colour;
  /** The colour immediately below it. */
  ground: Colour;
}

/**
 * Returns every visible text with its colour and the colour below it: in an SVG, that of the shape drawn before it. The window must be as
 * high as the page, because elementsFromPoint finds nothing outside of the window.
 */
export function paintedTexts(): PaintedText[] {
  const rgb = (colour: string): Colour | undefined => {
    const numbers = colour
      .match(/^rgba?\(([^)]*)\)$/)?.[1]
      ?.split(/[ ,/]+/)
      .map(Number);
    if (colour === "none" || numbers?.[3] === 0) return undefined;
    if (numbers?.length !== 3) throw new Error(`The colour ${colour} cannot be compared`);
    return numbers as unknown as Colour;
  };
  const groundOf = (element: Element) => {
    if (element instanceof SVGTextElement) return undefined;
    const { fill, backgroundColor } = getComputedStyle(element);
    return rgb(element instanceof SVGGeometryElement ? fill : backgroundColor);
  };
  const found: PaintedText[] = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    const text = node.textContent?.trim();
    if (!text || !element?.checkVisibility() || element.closest(".hidden")) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    const firstBox = () => [...range.getClientRects()].find(({ width, height }) => width > 0 && height > 0);
    const scroller = element.closest(".scroll");
    const [start, left = 0] = [firstBox()?.left, scroller?.getBoundingClientRect().left];
    if (scroller && start !== undefined) scroller.scrollLeft += start - left - 20;
    const box = firstBox();
    if (!box) throw new Error(`"${text}" has no box`);
    const stack = document.elementsFromPoint(box.left + Math.min(box.width / 2, 3), box.top + box.height / 2);
    const from = stack.indexOf(element);
    if (from < 0) throw new Error(`"${text}" is covered by ${stack[0]?.outerHTML.slice(0, 80)}`);
    const { fill, color } = getComputedStyle(element);
    const colour = rgb(element instanceof SVGElement ? fill : color);
    const ground = stack.slice(from).map(groundOf).find(Boolean);
    if (!colour || !ground) throw new Error(`"${text}" has no colour, or nothing below it`);
    found.push({ text, colour, ground });
  }
  return found;
}

/**
 * Returns descriptions of everything that is too wide: elements that extend beyond the window, except inside a scrolling box, text that
 * extends beyond its own box, and content that is cut off without scrolling.
 */
export function misfits(): string[] {
  const tooWide = (inner: DOMRect, left: number, right: number) => inner.left < left - 1 || inner.right > right + 1;
  const name = (element: Element) => `<${element.localName} class="${element.getAttribute("class") ?? ""}">`;
  const page = document.documentElement;
  const found = page.scrollWidth > page.clientWidth ? [`the page is ${page.scrollWidth} px wide`] : [];
  for (const element of document.querySelectorAll("body *:not(svg *, .hidden)")) {
    if (!element.checkVisibility()) continue;
    const box = element.getBoundingClientRect();
    if (!element.parentElement?.closest(".scroll") && tooWide(box, 0, page.clientWidth)) {
      found.push(`${name(element)} sticks out of the page`);
    }
    const { overflowX } = getComputedStyle(element);
    if (["hidden", "clip"].includes(overflowX) && element.scrollWidth > element.clientWidth + 1) {
      found.push(`${name(element)} is cut off`);
    }
    const holder = element.closest("td, th, dd, dt, li, p, h1, h2, h3, caption, summary, pre");
    const { left = 0, right = 0 } = holder?.getBoundingClientRect() ?? {};
    for (const node of element.childNodes) {
      if (!holder || node.nodeType !== Node.TEXT_NODE || !node.textContent?.trim()) continue;
      const range = document.createRange();
      range.selectNodeContents(node);
      if ([...range.getClientRects()].some((rect) => tooWide(rect, left, right))) {
        found.push(`"${node.textContent}" sticks out of ${name(holder)}`);
      }
    }
  }
  return found;
}

/** Returns the elements that the keyboard can reach, in document order. */
export function stops(): string[] {
  const all = document.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex]");
  return [...all]
    .filter((element) => element.checkVisibility())
    .map(({ localName, ariaLabel, textContent }) => `${localName} ${ariaLabel ?? textContent?.trim().slice(0, 60)}`);
}

/** The focused element, and how the page shows the focus. */
export interface Focus {
  stop: string;
  /** Colour of the focus ring. */
  ring: Colour | undefined;
  /** The colour below the ring. */
  ground: Colour;
  /** Thickness of the ring, in CSS pixels. */
  thick: number;
  /** Whether a box around it cuts the ring off. */
  cut: boolean;
}

export function focus(): Focus {
  const rgb = (colour: string) => colour.match(/\d+/g)?.map(Number) as unknown as Colour;
  const element = document.activeElement ?? document.body;
  const { localName, ariaLabel, textContent } = element;
  const { outlineStyle, outlineColor, outlineWidth, outlineOffset } = getComputedStyle(element);
  const reach = Number.parseFloat(outlineWidth) + Number.parseFloat(outlineOffset);
  const box = element.getBoundingClientRect();
  const clips = (outer: Element) => {
    const { left, right, top, bottom } = outer.getBoundingClientRect();
    const out =
      box.left - reach < left || box.right + reach > right || box.top - reach < top || box.bottom + reach > bottom;
    return out && getComputedStyle(outer).overflowX !== "visible";
  };
  const around: Element[] = [];
  for (let outer = element.parentElement; outer; outer = outer.parentElement) around.push(outer);
  const grounds = around.map((outer) => getComputedStyle(outer).backgroundColor);
  return {
    stop: `${localName} ${ariaLabel ?? textContent?.trim().slice(0, 60)}`,
    ring: outlineStyle === "none" ? undefined : rgb(outlineColor),
    ground: rgb(grounds.find((colour) => colour !== "rgba(0, 0, 0, 0)") ?? "rgb(255, 255, 255)"),
    thick: Number.parseFloat(outlineWidth),
    cut: around.some(clips) || box.left - reach < 0 || box.right + reach > document.documentElement.clientWidth,
  };
}
