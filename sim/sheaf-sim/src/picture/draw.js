// Draws lanes, messages, phases and the chosen point. Reads `view` and `run`, and changes neither.

const GUTTER = 104;
const AXIS = 20;
const BAND = 22;
const ROW = 16;
/** More messages than this in view say nothing: their density is drawn instead. */
const ARROWS_MAX = 5000;

const KINDS = ['client', 'data', 'frame', 'directive', 'report', 'map', 'ask'];
const view = { from: 0, to: 1, line: 0, point: 0, story: null, kinds: new Set(KINDS), laneHeight: 24 };
const canvas = document.getElementById('lanes');
const overview = document.getElementById('overview');
let colour = {};

function readColours() {
  const style = getComputedStyle(document.documentElement);
  const names = ['ground', 'panel', 'ink', 'soft', 'faint', 'stripe', 'accent', 'bad', 'good', 'cursor', ...KINDS, 'nothing',
    'prepare', 'copy', 'fence', 'sweep', 'abort', 'owns', 'outgoing', 'fenced', 'incoming', 'leftover', 'down', 'waits', 'paused', 'slow', 'cut'];
  colour = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

function fit(target, height) {
  const ratio = window.devicePixelRatio || 1;
  const width = target.clientWidth;
  if (target.width !== Math.round(width * ratio) || target.height !== Math.round(height * ratio)) {
    target.width = Math.round(width * ratio);
    target.height = Math.round(height * ratio);
    target.style.height = `${height}px`;
  }
  const pen = target.getContext('2d');
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = '11px system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif';
  pen.textBaseline = 'middle';
  return [pen, width];
}

const laneTop = (lane) => AXIS + BAND + lane * view.laneHeight;
const laneMiddle = (lane) => laneTop(lane) + view.laneHeight / 2;
const pointTop = () => laneTop(run.lanes.length) + 24;
const boardHeight = () => pointTop() + ROW * (gateLanes.length + 1) + 6;
const toX = (us, width) => GUTTER + ((us - view.from) / (view.to - view.from)) * (width - GUTTER);
const toTime = (x, width) => view.from + ((x - GUTTER) / (width - GUTTER)) * (view.to - view.from);

/** A span's left and right edge on the board; null when it isn't in view. */
function edges(from, to, width) {
  if (to < view.from || from > view.to) return null;
  const left = Math.max(toX(from, width), GUTTER);
  return [left, Math.max(Math.min(toX(to, width), width), left + 1)];
}

function text(pen, words, x, y, paint, room = Infinity) {
  if (room < 14) return;
  let shown = words;
  if (pen.measureText(shown).width > room) {
    const letters = Math.floor(room / 6.4) - 1;
    if (letters < 1) return;
    shown = `${shown.slice(0, letters)}…`;
  }
  pen.fillStyle = paint;
  pen.fillText(shown, x, y);
}

function hatch(pen, left, top, right, bottom, paint, step = 6) {
  pen.save();
  pen.beginPath();
  pen.rect(left, top, right - left, bottom - top);
  pen.clip();
  pen.strokeStyle = paint;
  pen.lineWidth = 1.5;
  pen.beginPath();
  for (let x = left - (bottom - top); x < right; x += step) {
    pen.moveTo(x, bottom);
    pen.lineTo(x + (bottom - top), top);
  }
  pen.stroke();
  pen.restore();
}

function drawAxis(pen, width) {
  const wanted = (view.to - view.from) / ((width - GUTTER) / 110);
  const power = 10 ** Math.floor(Math.log10(wanted));
  const step = [1, 2, 5, 10].map((by) => by * power).find((by) => by >= wanted);
  pen.strokeStyle = colour.faint;
  pen.lineWidth = 1;
  for (let at = Math.ceil(view.from / step) * step; at <= view.to; at += step) {
    const x = Math.round(toX(at, width)) + 0.5;
    pen.beginPath();
    pen.moveTo(x, AXIS - 4);
    pen.lineTo(x, boardHeight());
    pen.stroke();
    const places = Math.max(0, Math.min(4, 6 - Math.floor(Math.log10(step) + 1e-9)));
    text(pen, `${(at / 1e6).toFixed(places)} s`, x + 3, AXIS / 2, colour.soft, width - x);
  }
}

function drawPhases(pen, width) {
  for (const item of phases) {
    const edge = edges(item.at, item.to, width);
    if (!edge) continue;
    const [left, right] = edge;
    const version = `v${run.maps[item.map].version}`;
    if (item.transition === null) {
      text(pen, version, left + 4, AXIS + BAND / 2, colour.soft, right - left - 6);
      continue;
    }
    pen.fillStyle = colour[item.phase];
    pen.fillRect(left, AXIS + 2, right - left - (right - left > 3 ? 1 : 0), BAND - 4);
    const attempt = item.attempt ? ` ${item.attempt}` : '';
    const words = `migration ${item.transition}: ${item.phase}${item.phase === 'fence' ? attempt : ''}  ${version}`;
    const short = right - left < 150 ? `${item.phase} ${version}` : words;
    text(pen, short, left + 5, AXIS + BAND / 2 + 0.5, '#fff', right - left - 8);
  }
}

function drawLanes(pen, width) {
  const height = view.laneHeight;
  run.lanes.forEach((lane, at) => {
    if (at % 2 === 0) {
      pen.fillStyle = colour.stripe;
      pen.fillRect(0, laneTop(at), width, height);
    }
  });
  drawAxis(pen, width);
  run.lanes.forEach((lane, at) => {
    pen.strokeStyle = colour.faint;
    pen.lineWidth = 1;
    pen.beginPath();
    pen.moveTo(GUTTER, Math.round(laneMiddle(at)) + 0.5);
    pen.lineTo(width, Math.round(laneMiddle(at)) + 0.5);
    pen.stroke();
  });
  for (const span of run.spans) {
    const edge = edges(span.from, span.to ?? end, width);
    if (!edge) continue;
    const [left, right] = edge;
    const top = laneTop(span.lane) + 2;
    const bottom = top + height - 4;
    pen.fillStyle = colour[span.kind];
    pen.globalAlpha = 0.14;
    pen.fillRect(left, top, right - left, bottom - top);
    pen.globalAlpha = 0.55;
    if (span.kind === 'down' || span.kind === 'paused') hatch(pen, left, top, right, bottom, colour[span.kind], span.kind === 'down' ? 6 : 10);
    pen.globalAlpha = 1;
    if (span.kind === 'down' && span.from >= view.from) {
      cross(pen, left, laneMiddle(span.lane), 4.5, colour.down);
    }
    const words = { down: 'down', waits: 'not started', paused: 'frozen', slow: 'slow' }[span.kind];
    label(pen, words, left + 9, laneMiddle(span.lane), colour[span.kind], right - left - 12);
  }
  for (const cut of run.cuts) drawCut(pen, width, cut);
  for (const operation of run.operations) drawOperation(pen, width, operation);
}

/** Words on a ground of their own, readable over a hatch. */
function label(pen, words, x, y, paint, room) {
  const wide = pen.measureText(words).width;
  if (wide > room) return;
  pen.fillStyle = colour.panel;
  pen.globalAlpha = 0.85;
  pen.fillRect(x - 2, y - 6.5, wide + 4, 13);
  pen.globalAlpha = 1;
  text(pen, words, x, y, paint);
}

function cross(pen, x, y, size, paint) {
  pen.strokeStyle = paint;
  pen.lineWidth = 2;
  pen.beginPath();
  pen.moveTo(x - size, y - size);
  pen.lineTo(x + size, y + size);
  pen.moveTo(x - size, y + size);
  pen.lineTo(x + size, y - size);
  pen.stroke();
}

function drawCut(pen, width, cut) {
  const edge = edges(cut.from, cut.to ?? end, width);
  if (!edge) return;
  const [left, right] = edge;
  const times = new Map();
  for (const lane of cut.ways.flat()) times.set(lane, (times.get(lane) ?? 0) + 1);
  const most = Math.max(...times.values());
  pen.strokeStyle = colour.cut;
  pen.lineWidth = 1.5;
  for (const [lane, count] of times) {
    const chief = count === most;
    const y = laneTop(lane) + view.laneHeight - 2;
    pen.setLineDash(chief ? [] : [2, 4]);
    pen.globalAlpha = chief ? 1 : 0.45;
    pen.beginPath();
    pen.moveTo(left, y);
    pen.lineTo(right, y);
    pen.stroke();
    pen.globalAlpha = 1;
    if (chief) label(pen, 'cut off', left + 4, y - 5, colour.cut, right - left - 8);
  }
  pen.setLineDash([]);
}

function drawOperation(pen, width, operation) {
  if (operation.lane === null) return;
  const edge = edges(operation.from, operation.to ?? end, width);
  if (!edge) return;
  const [left, right] = edge;
  const middle = laneMiddle(operation.lane);
  pen.fillStyle = operation.done ? colour.good : operation.answer.startsWith('Refused') ? colour.bad : colour.soft;
  pen.globalAlpha = 0.55;
  pen.fillRect(left, middle - 3, Math.max(right - left, 1.5), 6);
  pen.globalAlpha = 1;
  if (view.story && operation.collection === view.story.collection && operation.ids.includes(view.story.id)) {
    pen.strokeStyle = colour.accent;
    pen.lineWidth = 1.5;
    pen.strokeRect(left - 1, middle - 5, Math.max(right - left, 1.5) + 2, 10);
    text(pen, operation.kind, left + 3, middle - 0.5, colour.ink, right - left - 4);
  }
}

/** The messages that are in view and wanted. */
function arrowsInView() {
  const wanted = (arrow) => view.kinds.has(arrow.kind) || (arrow.kind === 'nothing' && view.kinds.size > 0);
  const seen = (arrow) => arrow.sent <= view.to && arrow.until >= view.from;
  return run.arrows.filter((arrow) => seen(arrow) && wanted(arrow));
}

/** Where a message's line begins and ends on the board. */
function course(arrow, width) {
  const [y1, y2] = [laneMiddle(arrow.from), laneMiddle(arrow.to)];
  const x1 = toX(arrow.sent, width);
  const x2 = toX(arrow.until, width);
  if (arrow.fate === 'lost' || (arrow.fate === 'cut' && arrow.landed === arrow.sent)) {
    return [x1, y1, x1 + 5, y1 + (y2 - y1) * 0.45];
  }
  return [x1, y1, x2, y2];
}

function drawArrow(pen, width, arrow, lit) {
  const [x1, y1, x2, y2] = course(arrow, width);
  const failed = arrow.fate !== 'arrived' && arrow.fate !== 'flying';
  const paint = arrow.bad || failed ? colour.bad : colour[arrow.kind];
  pen.strokeStyle = paint;
  pen.lineWidth = lit ? 2.6 : arrow.bad || failed ? 1.3 : 1;
  pen.setLineDash(arrow.repeated ? [2, 3] : arrow.answer ? [6, 2] : []);
  pen.beginPath();
  pen.moveTo(x1, y1);
  pen.lineTo(x2, y2);
  pen.stroke();
  pen.setLineDash([]);
  if (failed) {
    pen.globalAlpha = 1;
    cross(pen, x2, y2, 3.2, colour.bad);
  } else if (arrow.fate === 'arrived' && Math.abs(x2 - x1) + Math.abs(y2 - y1) > 8) {
    const angle = Math.atan2(y2 - y1, x2 - x1);
    pen.fillStyle = paint;
    pen.beginPath();
    pen.moveTo(x2, y2);
    for (const turn of [2.75, -2.75]) pen.lineTo(x2 + 7 * Math.cos(angle + turn), y2 + 7 * Math.sin(angle + turn));
    pen.fill();
  }
}

function drawArrows(pen, width) {
  const arrows = arrowsInView();
  pen.save();
  pen.beginPath();
  pen.rect(GUTTER, AXIS + BAND, width - GUTTER, pointTop());
  pen.clip();
  if (arrows.length > ARROWS_MAX) {
    drawDensity(pen, width, arrows);
  } else {
    const alpha = arrows.length > 2500 ? 0.25 : arrows.length > 800 ? 0.45 : 0.85;
    const at = lines[view.line].at;
    for (const arrow of arrows) {
      const lit = arrow.landed === at || arrow.sent === at;
      pen.globalAlpha = lit ? 1 : alpha;
      drawArrow(pen, width, arrow, lit);
    }
    pen.globalAlpha = 1;
  }
  pen.restore();
}

function drawDensity(pen, width, arrows) {
  const bin = 4;
  const bins = Math.ceil((width - GUTTER) / bin);
  const counts = run.lanes.map(() => new Uint16Array(bins + 1));
  for (const arrow of arrows) {
    const at = Math.floor((toX(arrow.sent, width) - GUTTER) / bin);
    if (at >= 0 && at <= bins) counts[arrow.from][at] += 1;
  }
  const most = Math.max(...counts.map((lane) => Math.max(...lane)), 1);
  pen.fillStyle = colour.data;
  pen.globalAlpha = 0.55;
  counts.forEach((lane, at) => {
    lane.forEach((count, x) => {
      if (!count) return;
      const tall = Math.max(1.5, Math.sqrt(count / most) * (view.laneHeight - 6));
      pen.fillRect(GUTTER + x * bin, laneTop(at) + view.laneHeight - 2 - tall, bin - 1, tall);
    });
  });
  pen.globalAlpha = 1;
  const words = `${arrows.length.toLocaleString('en')} messages in view, drawn as bars: zoom in to see each`;
  label(pen, words, width - pen.measureText(words).width - 12, laneTop(0) + 10, colour.soft, Infinity);
}

function drawPoint(pen, width) {
  const top = pointTop();
  pen.strokeStyle = colour.faint;
  pen.strokeRect(-1, top - 22.5, width + 2, 0);
  if (!view.story) return;
  for (const owner of view.story.owners) {
    const edge = edges(owner.from, owner.to, width);
    if (!edge || owner.lane === undefined) continue;
    const [left, right] = edge;
    pen.fillStyle = colour.owns;
    pen.globalAlpha = 0.18;
    pen.fillRect(left, top + 1, right - left - 1, ROW - 2);
    pen.globalAlpha = 1;
    const words = `v${owner.version}: ${run.lanes[owner.lane].name} (s${owner.shard})`;
    text(pen, words, left + 4, top + ROW / 2, colour.ink, right - left - 6);
  }
  view.story.rows.forEach((row, at) => drawPointRow(pen, width, row, top + ROW * (at + 1)));
}

function drawPointRow(pen, width, row, top) {
  pen.strokeStyle = colour.faint;
  pen.beginPath();
  pen.moveTo(GUTTER, top + ROW - 0.5);
  pen.lineTo(width, top + ROW - 0.5);
  pen.stroke();
  for (const span of row.spans) {
    const edge = edges(span.from, span.to, width);
    if (!edge || span.role === 'none') continue;
    const [left, right] = edge;
    const paint = colour[span.role];
    const held = span.stamp !== null;
    pen.globalAlpha = held ? 0.9 : 0.28;
    if (span.role === 'fenced') {
      pen.globalAlpha = held ? 0.35 : 0.15;
      pen.fillStyle = paint;
      pen.fillRect(left, top + 2, right - left, ROW - 4);
      pen.globalAlpha = 0.95;
      hatch(pen, left, top + 2, right, top + ROW - 2, paint, 5);
    } else if (span.role === 'leftover') {
      pen.strokeStyle = paint;
      pen.strokeRect(left + 0.5, top + 2.5, right - left - 1, ROW - 5);
    } else {
      pen.fillStyle = paint;
      pen.fillRect(left, top + 2, right - left, ROW - 4);
    }
    pen.globalAlpha = 1;
    const solid = held && !['fenced', 'leftover'].includes(span.role);
    const words = `${held ? `w${span.stamp}` : 'nothing'} · ${span.role}`;
    if (span.role === 'fenced') label(pen, words, left + 4, top + ROW / 2, colour.ink, right - left - 6);
    else text(pen, right - left > 110 ? words : held ? `w${span.stamp}` : '–', left + 4, top + ROW / 2 + 0.5, solid ? '#fff' : colour.ink, right - left - 5);
  }
  for (const span of downOf.get(row.lane)) {
    const edge = edges(span.from, span.to ?? end, width);
    if (!edge) continue;
    pen.fillStyle = colour.panel;
    pen.globalAlpha = 0.72;
    pen.fillRect(edge[0], top + 1, edge[1] - edge[0], ROW - 2);
    pen.globalAlpha = 1;
    label(pen, 'down', edge[0] + 4, top + ROW / 2, colour.down, edge[1] - edge[0] - 6);
  }
  for (const touch of row.touches) {
    if (touch.at < view.from || touch.at > view.to) continue;
    const x = toX(touch.at, width);
    pen.fillStyle = colour.ink;
    pen.strokeStyle = colour.panel;
    pen.lineWidth = 1;
    pen.beginPath();
    if (touch.write) {
      pen.moveTo(x, top + ROW - 1);
      pen.lineTo(x - 4.5, top + ROW - 8);
      pen.lineTo(x + 4.5, top + ROW - 8);
      pen.closePath();
    } else {
      pen.arc(x, top + ROW - 5, 2.4, 0, 7);
    }
    pen.stroke();
    pen.fill();
  }
}

function drawGutter(pen) {
  pen.fillStyle = colour.panel;
  pen.fillRect(0, 0, GUTTER - 1, pointTop() - 23);
  pen.fillRect(0, pointTop(), GUTTER - 1, boardHeight());
  pen.fillRect(0, pointTop() - 22, canvas.clientWidth, 21);
  if (view.story) {
    const title = `the point ${pointName(run.points[view.point])}: who owns it, what each gate holds of it (w = the write that made it)`;
    text(pen, title, 8, pointTop() - 11, colour.ink, canvas.clientWidth);
  }
  text(pen, 'time', 8, AXIS / 2, colour.soft);
  text(pen, 'migration', 8, AXIS + BAND / 2, colour.soft);
  run.lanes.forEach((lane, at) => text(pen, lane.name, 8, laneMiddle(at), colour.ink));
  text(pen, 'owner (store)', 8, pointTop() + ROW / 2, colour.soft);
  gateLanes.forEach((lane, at) => text(pen, run.lanes[lane].name, 8, pointTop() + ROW * (at + 1.5), colour.ink));
  pen.strokeStyle = colour.faint;
  pen.lineWidth = 1;
  pen.beginPath();
  for (const [top, bottom] of [[0, pointTop() - 23], [pointTop(), boardHeight()]]) {
    pen.moveTo(GUTTER - 0.5, top);
    pen.lineTo(GUTTER - 0.5, bottom);
  }
  pen.stroke();
}

function upright(pen, x, height, paint, dash) {
  pen.strokeStyle = paint;
  pen.lineWidth = 1.5;
  pen.setLineDash(dash);
  pen.beginPath();
  pen.moveTo(x, 0);
  pen.lineTo(x, height);
  pen.stroke();
  pen.setLineDash([]);
}

function drawBoard() {
  const room = document.getElementById('board').clientHeight;
  const fixed = AXIS + BAND + 24 + ROW * (gateLanes.length + 1) + 8;
  view.laneHeight = Math.max(18, Math.min(34, Math.floor((room - fixed) / run.lanes.length)));
  const [pen, width] = fit(canvas, boardHeight());
  drawLanes(pen, width);
  drawPhases(pen, width);
  drawArrows(pen, width);
  drawPoint(pen, width);
  const at = lines[view.line].at;
  if (run.healed >= view.from && run.healed <= view.to) upright(pen, toX(run.healed, width), boardHeight(), colour.good, [2, 4]);
  if (run.broken && run.broken.at >= view.from && run.broken.at <= view.to) {
    upright(pen, toX(run.broken.at, width), boardHeight(), colour.bad, []);
    label(pen, run.broken.label, Math.min(toX(run.broken.at, width) + 5, width - 150), laneTop(0) + 8, colour.bad, Infinity);
  }
  if (at >= view.from && at <= view.to) upright(pen, toX(at, width), boardHeight(), colour.cursor, [4, 3]);
  drawGutter(pen);
}

function drawOverview() {
  const [pen, width] = fit(overview, 26);
  const x = (us) => (us / end) * width;
  pen.fillStyle = colour.stripe;
  pen.fillRect(0, 0, width, 26);
  for (const item of phases) {
    if (item.transition === null) continue;
    pen.fillStyle = colour[item.phase];
    pen.fillRect(x(item.at), 3, Math.max(x(item.to) - x(item.at), 1), 9);
  }
  for (const span of run.spans) {
    if (span.from <= 1) continue;
    pen.fillStyle = colour[span.kind];
    pen.fillRect(x(span.from), 14, Math.max(x(span.to ?? end) - x(span.from), 1.5), 4);
  }
  pen.fillStyle = colour.cut;
  for (const cut of run.cuts) pen.fillRect(x(cut.from), 20, Math.max(x(cut.to ?? end) - x(cut.from), 1.5), 2);
  if (run.broken) upright(pen, Math.min(x(run.broken.at), width - 1), 26, colour.bad, []);
  pen.strokeStyle = colour.accent;
  pen.lineWidth = 1.5;
  pen.strokeRect(x(view.from) + 0.75, 0.75, Math.max(x(view.to) - x(view.from) - 1.5, 2), 24.5);
  upright(pen, x(lines[view.line].at), 26, colour.cursor, []);
}
