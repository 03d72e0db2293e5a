// Questions to a page, each answered with a list of what is wrong.
({
  shown(element) {
    const box = element.getBoundingClientRect(), style = getComputedStyle(element);
    return box.width > 1 && box.height > 1 && style.visibility === "visible" && Number(style.opacity) > 0.05
      && !element.closest("[aria-hidden=true]") && element.checkVisibility();
  },
  named(element) {
    const text = element.innerText || element.textContent || element.title || "";
    return `${element.tagName.toLowerCase()}#${element.closest("[id]")?.id}: ${text.trim().slice(0, 40)}`;
  },
  // Wider than the window, or text that its own element cuts off.
  cut() {
    const wrong = [];
    const wide = document.documentElement.scrollWidth;
    if (wide > innerWidth) {
      wrong.push(`the page is ${wide} px wide`);
      for (const element of document.querySelectorAll("body *"))
        if (this.shown(element) && element.getBoundingClientRect().right > innerWidth + 1 && !element.closest(".sdg-scroll, pre"))
          wrong.push(`reaches out: ${this.named(element)}`);
    }
    for (const element of document.querySelectorAll("button, label > span, [data-testid=block-info], h1, h2, h3"))
      if (this.shown(element) && element.scrollWidth > element.clientWidth + 1 && getComputedStyle(element).overflowX !== "visible")
        wrong.push(`cut off: ${this.named(element)}`);
    for (const element of document.querySelectorAll("[role=tab]")) {
      const box = element.getBoundingClientRect(), list = element.parentElement.getBoundingClientRect();
      if (this.shown(element) && (box.right > list.right + 1 || element.scrollWidth > element.clientWidth + 1))
        wrong.push(`cut off: ${this.named(element)}`);
    }
    return wrong;
  },
  // Two things to press or fill in that lie over each other.
  overlapping() {
    const wrong = [];
    const all = [...document.querySelectorAll("button, textarea, canvas, input:not([type=range]):not([type=file])")]
      .filter(element => this.shown(element));
    const boxes = all.map(element => element.getBoundingClientRect());
    for (let one = 0; one < all.length; one++)
      for (let other = one + 1; other < all.length; other++) {
        if (all[one].contains(all[other]) || all[other].contains(all[one])) continue;
        const across = Math.min(boxes[one].right, boxes[other].right) - Math.max(boxes[one].left, boxes[other].left);
        const down = Math.min(boxes[one].bottom, boxes[other].bottom) - Math.max(boxes[one].top, boxes[other].top);
        if (across > 2 && down > 2) wrong.push(`${this.named(all[one])} over ${this.named(all[other])}`);
      }
    return wrong;
  },
  // Things that have no name for those who do not see them; a picture that says nothing of its own has an empty one.
  nameless() {
    return [...document.querySelectorAll("button, textarea, canvas, input:not([type=file]):not([type=hidden]), img, iframe, dialog")]
      .filter(element => this.shown(element))
      .filter(element => !(element.getAttribute("aria-label") || element.getAttribute("aria-labelledby") || element.hasAttribute("alt")
        || element.title || element.labels?.length || element.textContent.trim()))
      .map(element => `${this.named(element)} ${element.outerHTML.slice(0, 120)}`);
  },
  // Text below the contrast of WCAG 2.2, 1.4.3: 4.5, or 3 where it is large.
  faint() {
    const channels = colour => colour.match(/[\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
      .reduce((sum, v, place) => sum + v * [0.2126, 0.7152, 0.0722][place], 0);
    const behind = element => {
      const layers = [];
      for (let here = element; here; here = here.parentElement) {
        const style = getComputedStyle(here), colour = channels(style.backgroundColor);
        if (style.backgroundImage !== "none") return null;
        const opacity = colour[3] ?? 1;
        if (opacity > 0) layers.push([colour, opacity]);
        if (opacity === 1) break;
      }
      return layers.reduceRight((under, [colour, opacity]) => under.map((v, place) => v * (1 - opacity) + colour[place] * opacity), [255, 255, 255]);
    };
    const wrong = new Set();
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const element = walker.currentNode.parentElement;
      if (!walker.currentNode.data.trim() || !element || !this.shown(element) || element.closest("script, style, svg, :disabled")) continue;
      const style = getComputedStyle(element), ground = behind(element);
      if (!ground || !style.color.startsWith("rgb")) continue;
      const [a, b] = [light(channels(style.color)), light(ground)].sort((x, y) => y - x);
      const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
      const ratio = (a + 0.05) / (b + 0.05);
      if (ratio < (large ? 3 : 4.5)) wrong.add(`${ratio.toFixed(2)} ${this.named(element)}`);
    }
    return [...wrong];
  },
})
