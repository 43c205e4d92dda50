// The controls: what is in view, which line is the current one, and what the mouse and the keys do about it.

const byId = (id) => document.getElementById(id);
const [scrubber, zoom, tip] = [byId('scrubber'), byId('zoom'), byId('tip')];
/** The narrowest view, in microseconds. */
const NARROWEST = 500;
/** Lines of the log before the violation that are in view at first. */
const LINES_BEFORE = 220;
let planned = false;

function redraw() {
  if (planned) return;
  planned = true;
  requestAnimationFrame(() => {
    planned = false;
    drawBoard();
    drawOverview();
  });
}

/** Shows the time between two moments, within the run. */
function look(from, to) {
  const wide = Math.min(Math.max(to - from, NARROWEST), end);
  view.from = Math.min(Math.max(from, 0), end - wide);
  view.to = view.from + wide;
  zoom.value = Math.round((1000 * Math.log(end / wide)) / Math.log(end / NARROWEST));
  redraw();
}

function zoomTo(wide, around) {
  const width = Math.min(Math.max(wide, NARROWEST), end);
  const share = (around - view.from) / (view.to - view.from);
  look(around - share * width, around + (1 - share) * width);
}

/** Makes a line the current one and brings its time into view. */
function goTo(number) {
  view.line = Math.min(Math.max(number, 0), lines.length - 1);
  const line = lines[view.line];
  scrubber.value = view.line;
  scrubber.setAttribute('aria-valuetext', `${clock(line.at)}, event ${line.event}`);
  const wide = view.to - view.from;
  if (line.at < view.from || line.at > view.to) look(line.at - wide / 2, line.at + wide / 2);
  byId('now').textContent = `${clock(line.at)}, event ${line.event}, line ${view.line + 1} of ${lines.length}\n${line.text}`;
  tellPoint();
  followLog();
  redraw();
}

function tellPoint() {
  const head = run.points[view.point] ? `${pointName(run.points[view.point])} at ${clock(lines[view.line].at)}` : 'no point was touched';
  byId('point-now').textContent = view.story ? `${head}\n${pointAt(view.story, lines[view.line].at)}` : head;
}

/** The first line at a time, or after it; of several at once the one that says most. */
function lineAt(at) {
  const first = Math.min(countUntil(lines, at - 1, (line) => line.at), lines.length - 1);
  const same = lines.slice(first, first + 50).findIndex((line) => line.weighty && line.at === lines[first].at);
  return first + Math.max(same, 0);
}

function goToMoment(step) {
  const at = lines[view.line].at;
  const later = moments.filter((item) => item.at > at);
  const earlier = moments.filter((item) => item.at < at);
  const next = step > 0 ? later[0] : earlier[earlier.length - 1];
  if (next) goTo(lineAt(next.at));
}

function choose(point) {
  view.point = point;
  view.story = storyOf(point);
  byId('point').value = point;
  tellPoint();
  redraw();
}

/** `#event=N` is the moment of that event: the violation's link, and a way to show someone else. */
function obeyAddress() {
  const event = /event=(\d+)/.exec(location.hash)?.[1];
  if (event === undefined) return;
  const bad = run.broken && Number(event) === run.broken.event;
  const number = bad ? lines.length - 1 : lines.findIndex((line) => line.event >= Number(event));
  if (number < 0) return;
  const at = lines[number].at;
  if (view.to - view.from > 2e6) look(at - 3e5, at + 1e5);
  goTo(number);
}

function tell(words, x, y) {
  tip.hidden = !words;
  if (!words) return;
  tip.textContent = words;
  const stage = byId('stage');
  tip.style.left = `${Math.min(x + 14, stage.clientWidth - tip.offsetWidth - 8)}px`;
  tip.style.top = `${y + tip.offsetHeight + 20 > stage.clientHeight ? y - tip.offsetHeight - 12 : y + 16}px`;
}

function distance(px, py, [x1, y1, x2, y2]) {
  const long = (x2 - x1) ** 2 + (y2 - y1) ** 2;
  const share = long ? Math.min(Math.max(((px - x1) * (x2 - x1) + (py - y1) * (y2 - y1)) / long, 0), 1) : 0;
  return Math.hypot(px - x1 - share * (x2 - x1), py - y1 - share * (y2 - y1));
}

/** What is under the mouse, in words. */
function under(x, y) {
  const width = canvas.clientWidth;
  const at = toTime(x, width);
  if (x < GUTTER) return '';
  if (y >= pointTop()) return underPoint(Math.floor((y - pointTop()) / ROW), at);
  if (y < AXIS + BAND) {
    const phase = lastUntil(phases, at);
    if (!phase || phase.transition === null) return '';
    return `migration ${phase.transition}, ${phase.phase}, attempt ${phase.attempt}\n${clock(phase.at)} to ${clock(phase.to)}, map v${run.maps[phase.map].version}, term ${phase.term}`;
  }
  const arrows = arrowsInView();
  if (arrows.length <= ARROWS_MAX) {
    const near = arrows.map((arrow) => [distance(x, y, course(arrow, width)), arrow]).filter(([far]) => far < 6);
    near.sort((a, b) => a[0] - b[0]);
    if (near.length) {
      const arrow = near[0][1];
      const way = `${run.lanes[arrow.from].name} → ${run.lanes[arrow.to].name}`;
      const fate = { arrived: `arrives ${clock(arrow.until)}`, flying: 'never ends', lost: 'is lost', cut: 'the way is cut', down: 'nobody is there' }[arrow.fate];
      return `${way}  ${arrow.kind}${arrow.answer ? ', answer' : ''}${arrow.repeated ? ', repeated' : ''}\nleaves ${clock(arrow.sent)}, ${fate}\n${arrow.text}`;
    }
  }
  return underLane(Math.floor((y - laneTop(0)) / view.laneHeight), at);
}

function underLane(lane, at) {
  const holds = (item) => item.lane === lane && item.from <= at && (item.to ?? end) >= at;
  const operation = run.operations.find(holds);
  if (operation) return `${operation.text}\n${clock(operation.from)}: ${operation.answer || 'no answer'}`;
  const span = run.spans.find(holds);
  return span ? `${run.lanes[lane]?.name}: ${span.kind}, ${clock(span.from)} to ${clock(span.to ?? end)}` : '';
}

function underPoint(row, at) {
  if (!view.story || row < 1 || row > gateLanes.length) return '';
  const { lane, spans, touches } = view.story.rows[row - 1];
  const span = spans.find((item) => item.from <= at && item.to >= at);
  const near = touches.filter((touch) => Math.abs(touch.at - at) < (view.to - view.from) / 150);
  const map = span && span.map !== null ? `map v${run.maps[span.map].version}` : 'no map';
  const what = span ? `${span.role}; ${span.stamp === null ? 'holds nothing' : `holds write ${span.stamp}`}; ${map}; shard ${span.shard ?? 'none'} ${span.stage ?? ''}` : '';
  const touched = near.slice(0, 3).map((touch) => `\n${touch.write ? 'acknowledges a write' : 'serves a read'} at map v${touch.version}, ${clock(touch.at)}`);
  return `${run.lanes[lane].name}: ${what}${touched.join('')}`;
}

function fillLists() {
  const named = run.points.map((point, at) => [pointName(point), at]);
  named.sort((a, b) => a[0].localeCompare(b[0], 'en', { numeric: true }));
  byId('point').replaceChildren(...named.map(([name, at]) => new Option(name, at)));
  const jumps = moments.map((item, at) => new Option(`${(item.at / 1e6).toFixed(3)}  ${item.text}`, at));
  byId('moments').replaceChildren(new Option(`${moments.length} moments …`, ''), ...jumps);
  byId('kinds').replaceChildren(...KINDS.map((kind) => {
    const button = document.createElement('button');
    button.textContent = kind;
    button.style.setProperty('--of', `var(--${kind})`);
    button.setAttribute('aria-pressed', 'true');
    button.title = `show or hide ${kind} messages`;
    button.onclick = () => {
      const on = !view.kinds.delete(kind);
      if (on) view.kinds.add(kind);
      button.setAttribute('aria-pressed', String(on));
      redraw();
    };
    return button;
  }));
}

function fillLegend() {
  const chip = ([name, words, shape]) => `<span><i class="${shape ?? ''}" style="--of:var(--${name})"></i>${words}</span>`;
  const groups = [
    ['phase', [['prepare', 'prepare'], ['copy', 'copy'], ['fence', 'fence'], ['sweep', 'sweep'], ['abort', 'abort']]],
    ['point', [['owns', 'owns'], ['outgoing', 'outgoing'], ['fenced', 'fenced', 'hatched'], ['incoming', 'incoming'], ['leftover', 'left over', 'hollow']]],
    ['process', [['down', 'down', 'hatched'], ['paused', 'frozen', 'hatched'], ['slow', 'slow'], ['waits', 'not started', 'hollow']]],
    ['call', [['good', 'done'], ['bad', 'refused'], ['soft', 'unknown']]],
  ];
  const words = groups.map(([title, chips]) => `<b>${title}</b>${chips.map(chip).join('')}`);
  words.push('<span>▼ write acknowledged</span><span>● read served</span><span>╌ answer</span><span style="color:var(--bad)">✕ crash, lost, refused</span>');
  words.push('<span><kbd>←</kbd> <kbd>→</kbd> step <kbd>p</kbd> <kbd>n</kbd> moment <kbd>+</kbd> <kbd>−</kbd> zoom <kbd>0</kbd> whole <kbd>v</kbd> violation; wheel zooms, drag moves</span>');
  byId('legend').innerHTML = words.join('');
}

function fillHeader() {
  byId('title').textContent = `Sheaf · ${run.name} · seed ${run.seed}`;
  document.title = `Sheaf: ${run.name} seed ${run.seed}`;
  const verdict = byId('verdict');
  verdict.textContent = run.broken ? `broken: ${run.broken.label}` : 'every promise kept';
  verdict.classList.toggle('bad', Boolean(run.broken));
  verdict.title = run.knobs;
  byId('replay').textContent = run.replay;
  byId('replay').onclick = () => navigator.clipboard?.writeText(run.replay);
  if (run.broken) {
    const link = byId('violation');
    link.hidden = false;
    link.href = `#event=${run.broken.event}`;
    link.textContent = `event ${run.broken.event} at ${clock(run.broken.at)}: ${run.broken.text}`;
    link.title = run.broken.text;
    link.onclick = () => requestAnimationFrame(obeyAddress);
  }
}

function listenToMouse() {
  let drag = null;
  canvas.onpointerdown = (press) => {
    drag = { x: press.offsetX, from: view.from, to: view.to, moved: false };
    canvas.setPointerCapture(press.pointerId);
  };
  canvas.onpointermove = (move) => {
    if (!drag) return tell(under(move.offsetX, move.offsetY), move.offsetX, move.offsetY - byId('board').scrollTop);
    const by = ((move.offsetX - drag.x) / (canvas.clientWidth - GUTTER)) * (drag.to - drag.from);
    drag.moved ||= Math.abs(move.offsetX - drag.x) > 3;
    if (drag.moved) look(drag.from - by, drag.to - by);
    return tell('');
  };
  canvas.onpointerup = (lift) => {
    if (drag && !drag.moved && lift.offsetX > GUTTER) goTo(lineAt(toTime(lift.offsetX, canvas.clientWidth)));
    drag = null;
  };
  canvas.onpointerleave = () => tell('');
  canvas.addEventListener('wheel', (wheel) => {
    if (wheel.shiftKey) return;
    wheel.preventDefault();
    const around = toTime(Math.max(wheel.offsetX, GUTTER), canvas.clientWidth);
    zoomTo((view.to - view.from) * 1.0015 ** wheel.deltaY, around);
  }, { passive: false });
  overview.onclick = (click) => goTo(lineAt((click.offsetX / overview.clientWidth) * end));
  byId('log-rows').onclick = (click) => {
    const row = click.target.closest('.row');
    if (row) goTo(Number(row.dataset.line));
  };
  logBox.onscroll = drawLog;
}

function listenToKeys() {
  const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: -25, PageDown: 25 };
  document.addEventListener('keydown', (key) => {
    if (key.ctrlKey || key.metaKey || key.altKey) return;
    const typing = ['SELECT'].includes(key.target.tagName) || key.target.type === 'search';
    if (typing) {
      if (key.key === 'Escape') key.target.blur();
      return;
    }
    const middle = lines[view.line].at;
    const wide = view.to - view.from;
    const acts = {
      Home: () => goTo(0),
      End: () => goTo(lines.length - 1),
      n: () => goToMoment(1),
      p: () => goToMoment(-1),
      v: () => byId('violation').click(),
      0: () => look(0, end),
      '+': () => zoomTo(wide / 1.6, middle),
      '=': () => zoomTo(wide / 1.6, middle),
      '-': () => zoomTo(wide * 1.6, middle),
      '/': () => byId('filter').focus(),
    };
    const act = key.key in steps ? () => goTo(view.line + steps[key.key] * (key.shiftKey ? 10 : 1)) : acts[key.key];
    if (!act || (key.target === zoom && key.key in steps)) return;
    key.preventDefault();
    act();
  });
}

function listen() {
  scrubber.oninput = () => goTo(Number(scrubber.value));
  zoom.oninput = () => zoomTo(end * (NARROWEST / end) ** (zoom.value / 1000), lines[view.line].at);
  byId('whole').onclick = () => look(0, end);
  byId('step-back').onclick = () => goTo(view.line - 1);
  byId('step-on').onclick = () => goTo(view.line + 1);
  byId('moment-back').onclick = () => goToMoment(-1);
  byId('moment-on').onclick = () => goToMoment(1);
  byId('point').onchange = (change) => choose(Number(change.target.value));
  byId('moments').onchange = (change) => {
    if (change.target.value !== '') goTo(lineAt(moments[Number(change.target.value)].at));
    change.target.value = '';
  };
  byId('filter').oninput = (input) => filterLog(input.target.value);
  window.onhashchange = obeyAddress;
  window.onresize = () => { redraw(); drawLog(); };
  window.matchMedia('(prefers-color-scheme: dark)').onchange = () => { readColours(); redraw(); };
  listenToMouse();
  listenToKeys();
}

/** What to show first: the violation, or the first migration. */
function begin() {
  readColours();
  fillHeader();
  fillLists();
  fillLegend();
  listen();
  scrubber.max = lines.length - 1;
  choose(firstPoint());
  filterLog('');
  const first = phases.find((item) => item.transition !== null);
  const after = first && phases.find((item) => item.at > first.at && item.transition !== first.transition);
  if (run.broken) {
    const before = run.broken.at - lines[Math.max(0, lines.length - LINES_BEFORE)].at;
    look(run.broken.at - before, run.broken.at + before * 0.15);
    goTo(lines.length - 1);
  } else if (first) {
    const wide = Math.min((after?.at ?? first.to) - first.at, 1e6);
    look(first.at - wide * 0.15, first.at + wide * 1.15);
    goTo(lineAt(first.at));
  } else {
    look(0, end);
    goTo(0);
  }
  obeyAddress();
}

begin();
