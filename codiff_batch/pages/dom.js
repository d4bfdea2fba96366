// Helpers shared by the pages. Anything from a file or its name is inserted as text, never as markup.
const at = id => document.getElementById(id);
const read = () => JSON.parse(at("data").textContent);

function element(name, options = {}, ...children) {
  const made = Object.assign(document.createElement(name), options);
  made.append(...children);
  return made;
}

const count = (number, one, many = `${one}s`) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
const whole = value => value == null ? "?" : String(Math.round(value));
// Rounded down, so that what is shown never seems to reach a line that it misses.
const exact = value => value == null ? "?" : String(Math.floor(10 * value) / 10);

function duration(seconds) {
  if (seconds < 1) return "under a second";
  if (seconds < 100) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 100) return `${minutes} min`;
  const hours = Math.round(minutes / 60);
  if (minutes < 600) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  return hours < 72 ? `${hours} h` : `${Math.round(hours / 24)} days`;
}

const megapixels = value => `${value < 10 ? value.toFixed(1) : Math.round(value).toLocaleString("en")} megapixels`;

// Keys meant for the focused element: typing, and moving a slider.
const isTyping = event => event.ctrlKey || event.altKey || event.metaKey
  || Boolean(event.target.closest("select, textarea, input:not([type=range])"))
  || (event.target.matches("input[type=range]") && /^(Arrow|Page|Home|End)/.test(event.key));
