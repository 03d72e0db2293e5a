// The review of pairs: one picture is chosen, keys decide on it, and what is decided while a call runs is sent together.
const all = (selector) => [...element.querySelectorAll(selector)];
const one = (selector) => element.querySelector(selector);
const PATIENCE_MS = 5000;
let chosen = 0, asked = 0, turned = 0, sending = false, enterAtEnd = false, contour = true;
let waiting = [], undone = [];

function say(text, wrong = false) {
  const line = one('.sdg-review-status');
  if (line) { line.textContent = text; line.classList.toggle('sdg-wrong', wrong); }
}

function mark(tile, decision) {
  tile.dataset.decision = decision;
  tile.setAttribute('aria-label', `${tile.dataset.label}, ${decision}`);
  const badge = one('.sdg-detail-decision');
  if (badge && tile === all('.sdg-tile')[chosen]) { badge.textContent = decision; badge.dataset.decision = decision; }
}

async function choose(index, focus = true) {
  const tiles = all('.sdg-tile');
  if (!tiles.length) return;
  chosen = Math.max(0, Math.min(index, tiles.length - 1));
  tiles.forEach((tile, place) => {
    tile.tabIndex = place === chosen ? 0 : -1;
    tile.setAttribute('aria-selected', place === chosen);
  });
  const tile = tiles[chosen];
  if (focus) { tile.focus({ preventScroll: true }); tile.scrollIntoView({ block: 'nearest' }); }
  const ticket = ++asked;
  const reply = await server.detail([one('.sdg-review').dataset.name, tile.dataset.id]);
  if (ticket !== asked) return;
  if (reply.error) { say(reply.error, true); return; }
  one('.sdg-detail-picture').innerHTML = reply.picture;
  one('.sdg-detail-facts').innerHTML = reply.facts;
  one('.sdg-review').classList.toggle('sdg-no-contour', !contour);
  mark(tile, tile.dataset.decision);
}

function move(by) {
  const last = all('.sdg-tile').length - 1, target = chosen + by;
  if (target >= 0 && target <= last) { choose(target); return; }
  const { before, after } = one('.sdg-review').dataset;
  if (Date.now() - turned < PATIENCE_MS) return;
  if (target < 0 && before) { turned = Date.now(); enterAtEnd = true; trigger('previous'); }
  else if (target > last && after) { turned = Date.now(); trigger('next'); }
  else say(target < 0 ? 'This is the first one.' : 'This is the last one.');
}

function decide(decision) {
  const tile = all('.sdg-tile')[chosen];
  if (!tile) return;
  undone.push([one('.sdg-review').dataset.name, tile.dataset.id, tile.dataset.decision]);
  keep(undone.at(-1)[0], tile.dataset.id, decision);
  mark(tile, decision);
  move(1);
}

function undo() {
  const name = one('.sdg-review') && one('.sdg-review').dataset.name;
  const last = undone.pop();
  if (!last || last[0] !== name) { say('Nothing to undo.'); return; }
  keep(...last);
  const place = all('.sdg-tile').findIndex((tile) => tile.dataset.id === last[1]);
  if (place >= 0) { mark(all('.sdg-tile')[place], last[2]); choose(place); }
  else say(`${last[1]}, on another page, is ${last[2]} again.`);
}

function reviewer() {
  const field = document.querySelector('#data-reviewer input, #data-reviewer textarea');
  return field ? field.value : '';
}

function keep(name, id, decision) {
  waiting.push([name, id, decision]);
  send();
}

async function send() {
  if (sending || !waiting.length) return;
  const name = waiting[0][0], batch = waiting.filter((each) => each[0] === name);
  const rest = waiting.filter((each) => each[0] !== name);
  sending = true; waiting = rest;
  say('Saving ...');
  try {
    const reply = await server.decide([name, batch.map((each) => each.slice(1)), reviewer()]);
    say(reply.error ? `Not saved: ${reply.error}` : reply.said, Boolean(reply.error));
  } catch {
    waiting = [...batch, ...waiting];
    sending = false;
    say('Not saved yet: the studio does not answer. The next decision tries again.', true);
    return;
  }
  sending = false;
  send();
}

const KEYS = {
  a: () => decide('accepted'), r: () => decide('rejected'), u: undo, c: flip,
  ArrowRight: () => move(1), ArrowLeft: () => move(-1), ArrowDown: () => move(columns()), ArrowUp: () => move(-columns()),
};

function flip() {
  contour = !contour;
  one('.sdg-review').classList.toggle('sdg-no-contour', !contour);
}

function columns() {
  const tiles = all('.sdg-tile');
  return Math.max(1, tiles.filter((tile) => tile.offsetTop === tiles[0].offsetTop).length);
}

element.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !one('.sdg-tile')) return;
  const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (act) { event.preventDefault(); act(); }
});

element.addEventListener('click', (event) => {
  const tile = event.target.closest('.sdg-tile'), button = event.target.closest('[data-key]');
  if (tile) {
    choose(all('.sdg-tile').indexOf(tile));
    if (matchMedia('(max-width: 860px)').matches) one('.sdg-detail').scrollIntoView({ block: 'nearest' });
  }
  if (button) KEYS[button.dataset.key]();
});

window.addEventListener('beforeunload', (event) => {
  if (sending || waiting.length) event.preventDefault();
});

watch('value', () => {
  const focus = element.contains(document.activeElement);
  choose(enterAtEnd ? Infinity : 0, focus);
  enterAtEnd = false;
  turned = 0;
});
choose(0, false);
