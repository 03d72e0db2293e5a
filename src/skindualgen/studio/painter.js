// Draws a mask on a canvas: black and white by itself, or tinted over a photograph. The value is
// {photo, mask, width, height, edit, waiting}: data URIs and sizes in px; "edit" counts the strokes of the visitor,
// who cannot draw while a mask is on its way ("waiting"), as it would replace what was drawn.
const canvas = element.querySelector("canvas"), photo = element.querySelector("img"), ring = element.querySelector(".sdg-ring");
const stage = element.querySelector(".sdg-easel-in"), size = element.querySelector("[data-size]"), said = element.querySelector(".sdg-hidden");
const paper = canvas.getContext("2d", { willReadFrequently: true });
const UNDO_STEPS = 20;
const past = [];
let erasing = false, waiting = false, last = null, keyboard = null, strokes = 0;

const radius = () => Number(size.value) / 200 * Math.min(canvas.width, canvas.height);
const colour = () => photo.hidden ? "#ffffff" : "#19e3d2";
const remember = () => {
  past.push(paper.getImageData(0, 0, canvas.width, canvas.height));
  if (past.length > UNDO_STEPS) past.shift();
};
const give = () => {
  strokes += 1;
  props.value = { ...props.value, mask: canvas.toDataURL("image/png"), edit: strokes };
};
const line = (from, to) => {
  paper.globalCompositeOperation = erasing ? "destination-out" : "source-over";
  paper.strokeStyle = colour();
  paper.lineWidth = 2 * radius();
  paper.lineCap = paper.lineJoin = "round";
  paper.beginPath();
  paper.moveTo(from.x, from.y);
  paper.lineTo(to.x + 0.01, to.y);
  paper.stroke();
};
const place = event => {
  const box = canvas.getBoundingClientRect();
  return { x: (event.clientX - box.left) / box.width * canvas.width, y: (event.clientY - box.top) / box.height * canvas.height };
};
const showRing = at => {
  const share = 2 * radius() / canvas.width * 100;
  ring.style.cssText = `display:block;left:${at.x / canvas.width * 100}%;top:${at.y / canvas.height * 100}%;width:${share}%`;
};
const hold = choice => {
  erasing = choice;
  for (const button of element.querySelectorAll("[data-tool]"))
    button.setAttribute("aria-pressed", String((button.dataset.tool === "erase") === erasing));
};
const load = () => {
  const given = props.value ?? {};
  if (given.edit) return;
  strokes = 0;
  past.length = 0;
  last = null;
  waiting = Boolean(given.waiting);
  stage.setAttribute("aria-busy", String(waiting));
  canvas.width = given.width ?? 512;
  canvas.height = given.height ?? 512;
  stage.style.aspectRatio = `${canvas.width}/${canvas.height}`;
  stage.style.setProperty("--sdg-aspect", canvas.width / canvas.height);
  photo.hidden = !given.photo;
  if (given.photo) photo.src = given.photo;
  stage.classList.toggle("sdg-over-photo", Boolean(given.photo));
  if (!given.mask) return;
  const picture = new Image();
  picture.onload = () => {
    paper.globalCompositeOperation = "source-over";
    paper.drawImage(picture, 0, 0, canvas.width, canvas.height);
    paper.globalCompositeOperation = "source-in";
    paper.fillStyle = colour();
    paper.fillRect(0, 0, canvas.width, canvas.height);
  };
  picture.src = given.mask;
};

canvas.addEventListener("pointerdown", event => {
  if (event.button !== 0 || waiting) return;
  canvas.setPointerCapture(event.pointerId);
  remember();
  last = place(event);
  line(last, last);
});
canvas.addEventListener("pointermove", event => {
  const here = place(event);
  showRing(here);
  if (!last) return;
  for (const between of event.getCoalescedEvents?.() ?? []) { const next = place(between); line(last, next); last = next; }
  line(last, here);
  last = here;
});
const lift = () => { if (last) { last = null; give(); } };
canvas.addEventListener("pointerup", lift);
canvas.addEventListener("pointercancel", lift);
canvas.addEventListener("pointerleave", () => { if (!last) ring.style.display = "none"; });

// Arrow keys move the brush, space paints where it is, and along the way while it is held down with Shift.
canvas.addEventListener("keydown", event => {
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const move = moves[event.key];
  if (!move && event.key !== " ") return;
  event.preventDefault();
  if (waiting) return;
  keyboard ??= { x: canvas.width / 2, y: canvas.height / 2 };
  const before = { ...keyboard }, far = Math.max(4, radius());
  if (move) {
    keyboard.x = Math.min(canvas.width, Math.max(0, keyboard.x + move[0] * far));
    keyboard.y = Math.min(canvas.height, Math.max(0, keyboard.y + move[1] * far));
  }
  showRing(keyboard);
  if (!move || event.shiftKey) { remember(); line(before, keyboard); give(); }
});

element.addEventListener("click", event => {
  const button = event.target.closest("[data-tool],[data-do]");
  if (!button || waiting) return;
  if (button.dataset.tool) return hold(button.dataset.tool === "erase");
  if (button.dataset.do === "undo") {
    if (!past.length) return;
    paper.putImageData(past.pop(), 0, 0);
  } else {
    remember();
    paper.clearRect(0, 0, canvas.width, canvas.height);
  }
  said.textContent = button.textContent;
  give();
});
watch("value", load);
load();
