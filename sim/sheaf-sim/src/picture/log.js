// The log beside the board: only the rows that can be seen exist.

const ROW_HEIGHT = 18;
const logBox = document.getElementById('log');
const logRows = document.getElementById('log-rows');
/** Numbers of the lines that the filter lets through. */
let shown = lines.map((_, at) => at);

function filterLog(words) {
  const wanted = words.toLowerCase();
  const all = lines.map((_, at) => at);
  shown = wanted === '' ? all : all.filter((at) => lines[at].text.toLowerCase().includes(wanted));
  document.getElementById('log-room').style.height = `${shown.length * ROW_HEIGHT}px`;
  const count = shown.length.toLocaleString('en');
  document.getElementById('log-count').textContent = `${count} lines`;
  drawLog();
}

function drawLog() {
  const first = Math.max(0, Math.floor(logBox.scrollTop / ROW_HEIGHT) - 5);
  const last = Math.min(shown.length, first + Math.ceil(logBox.clientHeight / ROW_HEIGHT) + 10);
  logRows.style.top = `${first * ROW_HEIGHT}px`;
  logRows.replaceChildren(...shown.slice(first, last).map((number) => {
    const line = lines[number];
    const row = document.createElement('div');
    row.className = 'row';
    row.classList.toggle('weighty', Boolean(line.weighty));
    row.classList.toggle('bad', Boolean(line.bad));
    row.classList.toggle('here', number === view.line);
    row.dataset.line = number;
    const time = document.createElement('time');
    time.textContent = (line.at / 1e6).toFixed(4);
    row.append(time, line.text);
    return row;
  }));
}

/** Scrolls such that the current line, or the one before it, is in the middle. */
function followLog() {
  const at = countUntil(shown, view.line, (number) => number) - 1;
  const top = at * ROW_HEIGHT;
  if (top < logBox.scrollTop + ROW_HEIGHT || top > logBox.scrollTop + logBox.clientHeight - 2 * ROW_HEIGHT) {
    logBox.scrollTop = Math.max(0, top - logBox.clientHeight / 2);
  }
  drawLog();
}
