// What the recording means: moments worth seeing, and what each gate is to the chosen point at each time. Draws nothing.

const run = JSON.parse(document.getElementById('run').textContent);

/** Microseconds as seconds with three places of milliseconds. */
function clock(us) {
  return (us / 1e6).toFixed(us % 1000 ? 4 : 3) + ' s';
}

/** The number of items of a sorted list that aren't after `at`. */
function countUntil(list, at, key) {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (key(list[middle]) <= at) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The last item of a sorted list that isn't after `at`. */
function lastUntil(list, at, key = (item) => item.at) {
  return list[countUntil(list, at, key) - 1];
}

/** A little beyond the last event, so that what happened last isn't at the very edge. */
const end = Math.ceil(Math.max(run.end, run.broken?.at ?? 0, 1) * 1.01) + 5000;
for (const arrow of run.arrows) arrow.until = arrow.landed ?? (arrow.fate === 'flying' ? end : arrow.sent);

/** Phases of transitions: the store's states, each until the next. */
const phases = run.stored.map((item, at) => ({ ...item, to: run.stored[at + 1]?.at ?? end }));

// A process that has never run isn't one that crashed.
for (const span of run.spans) if (span.kind === 'down' && span.from <= 1) span.kind = 'waits';

/** What a reader jumps to: changes of the store, crashes, cuts, the violation. */
const moments = [];
function moment(at, text, weight) {
  if (at > 1) moments.push({ at, text, weight });
}
for (const item of phases) {
  const version = `v${run.maps[item.map].version}`;
  if (item.transition !== null) {
    const attempt = item.phase === 'fence' ? `, attempt ${item.attempt}` : '';
    moment(item.at, `migration ${item.transition}: ${item.phase}${attempt} (map ${version})`, 2);
  } else {
    moment(item.at, `no migration, map ${version}, term ${item.term}`, 1);
  }
}
for (const span of run.spans) {
  const name = run.lanes[span.lane].name;
  const began = { down: 'crashes', paused: 'is frozen', slow: 'becomes slow' }[span.kind];
  const over = { waits: 'starts', down: 'starts', paused: 'goes on', slow: 'is fast again' }[span.kind];
  if (began) moment(span.from, `${name} ${began}`, 1);
  if (span.to !== null) moment(span.to, `${name} ${over}`, 1);
}
for (const cut of run.cuts) {
  const few = cut.ways.slice(0, 2).map(([from, to]) => `${run.lanes[from].name} → ${run.lanes[to].name}`);
  cut.text = few.join(', ') + (cut.ways.length > 2 ? ` and ${cut.ways.length - 2} more` : '');
  moment(cut.from, `cut: ${cut.text}`, 1);
  if (cut.to !== null) moment(cut.to, `mended: ${cut.text}`, 1);
}
if (run.healed) moment(run.healed, 'all faults end', 2);
if (run.broken) moment(run.broken.at, `BROKEN: ${run.broken.label}`, 3);
moments.sort((a, b) => a.at - b.at);

/** Lines of the log; the last one says what broke. */
const lines = run.lines;
for (const line of lines) {
  line.weighty = /^(store:|crash|heal|operator|coordinator \d+ is deposed|Boot)/.test(line.text);
}
if (run.broken) {
  const text = `${run.broken.label}: ${run.broken.text}`;
  lines.push({ at: run.broken.at, event: run.broken.event, text, bad: true, weighty: true });
}
if (lines.length === 0) lines.push({ at: 0, event: 0, text: 'nothing happened' });

const gateLanes = run.lanes.map((lane, at) => at).filter((at) => run.lanes[at].kind === 'gate');
const statesOf = new Map(gateLanes.map((lane) => [lane, run.gates.filter((state) => state.lane === lane)]));
const downOf = new Map(run.lanes.map((_, at) => [at, run.spans.filter((span) => span.lane === at && span.kind === 'down')]));

/** What a gate with this ledger is to a point. */
function roleOf(state, point, held) {
  const owner = (map) => map !== null && map !== undefined && state.shard !== null && run.maps[map].owners[point] === state.shard;
  const leads = state.transition !== null;
  if (owner(state.map)) {
    if (!leads || owner(state.next)) return 'owns';
    return state.stage === 'fence' ? 'fenced' : 'outgoing';
  }
  if (leads && owner(state.next)) return 'incoming';
  return held ? 'leftover' : 'none';
}

/** A gate's roles and contents for a point, as spans in the order of time. */
function spansOf(lane, point) {
  const states = statesOf.get(lane);
  const contents = run.contents.filter((item) => item.lane === lane && item.point === point);
  const times = [...new Set([0, ...states.map((item) => item.at), ...contents.map((item) => item.at)])].sort((a, b) => a - b);
  const spans = [];
  for (const at of times) {
    const state = lastUntil(states, at) ?? { shard: null, map: null, transition: null, stage: '' };
    const stamp = lastUntil(contents, at)?.stamp ?? null;
    const role = roleOf(state, point, stamp !== null);
    const last = spans[spans.length - 1];
    if (last && last.role === role && last.stamp === stamp && last.map === state.map) continue;
    if (last) last.to = at;
    spans.push({ from: at, to: end, role, stamp, map: state.map, shard: state.shard, stage: state.stage });
  }
  return spans;
}

/** All that the picture shows of one point. */
function storyOf(point) {
  if (!run.points[point]) return null;
  const { id, collection } = run.points[point];
  const rows = gateLanes.map((lane) => ({
    lane,
    spans: spansOf(lane, point),
    touches: run.touches.filter((touch) => touch.lane === lane && touch.point === point),
  }));
  const owners = phases.map((item) => {
    const map = run.maps[item.map];
    const shard = map.owners[point];
    const lane = map.shards.find(([known]) => known === shard)?.[1];
    return { from: item.at, to: item.to, shard, lane, version: map.version };
  });
  const merged = [];
  for (const owner of owners) {
    const last = merged[merged.length - 1];
    if (last && last.shard === owner.shard && last.version === owner.version) last.to = owner.to;
    else merged.push({ ...owner });
  }
  return { id, collection, rows, owners: merged };
}

/** Who owns the chosen point and who holds it at a time, in words. */
function pointAt(story, at) {
  const owner = story.owners.find((item) => item.from <= at && item.to >= at);
  const name = owner && owner.lane !== undefined ? `${run.lanes[owner.lane].name} (s${owner.shard}, map v${owner.version})` : 'nobody';
  const rows = story.rows.map(({ lane, spans }) => {
    const span = lastUntil(spans, at, (item) => item.from);
    if (!span || span.role === 'none') return null;
    return `${run.lanes[lane].name}: ${span.role}, ${span.stamp === null ? 'holds nothing' : `holds write ${span.stamp}`}`;
  });
  return [`owner in the store: ${name}`, ...rows.filter(Boolean)].join('\n');
}

/** The point to show first: the one that the violation names, or the one whose contents moved most. */
function firstPoint() {
  if (run.broken) {
    const named = run.points.findIndex((point) => point.id && run.broken.text.includes(JSON.stringify(point.id)));
    if (named >= 0) return named;
  }
  const lanes = run.points.map(() => new Set());
  const count = run.points.map(() => 0);
  for (const item of run.contents) {
    lanes[item.point].add(item.lane);
    count[item.point] += 1;
  }
  let best = 0;
  for (let at = 1; at < run.points.length; at += 1) {
    const better = lanes[at].size - lanes[best].size || count[at] - count[best];
    if (better > 0) best = at;
  }
  return best;
}

/** A point's name for people; what can't be seen is written out. */
function pointName(point) {
  const id = point.id === '' ? '(empty id)' : JSON.stringify(point.id).slice(1, -1);
  const short = id.length > 34 ? id.slice(0, 31) + '…' : id;
  return `${point.collection} / ${short}`;
}
