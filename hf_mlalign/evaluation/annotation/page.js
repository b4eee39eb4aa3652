// Texts reach the page through textContent alone: nothing in them is read as HTML.
const STORAGE = "hf-mlalign-annotate";
const SHOWN_CHARS = 20000;
const CONTROL =
  /([\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufff9-\ufffb])\1*/g;
const LETTERS = ["A", "B"];
const KINDS = ["quality", "culture"];
const PREFERENCES = [["a", "a_better", "A"], ["tie", "tie", "T"], ["b", "b_better", "B"], ["both_bad", "both_bad", "N"]];
const root = element.querySelector(".mla");
const state = { ui: "en", study: null, name: "", reads: [], item: null, preference: null, points: [], busy: false };

function h(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value != null) node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

function say(key, values) {
  return (state.study.messages[key] || key).replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

function number(value) {
  return value.toLocaleString("en");
}

function writeText(node, text) {
  let start = 0;
  for (const match of text.matchAll(CONTROL)) {
    node.append(text.slice(start, match.index));
    const code = "U+" + match[1].charCodeAt(0).toString(16).toUpperCase().padStart(4, "0");
    const times = match[0].length > 1 ? " ×" + number(match[0].length) : "";
    node.append(h("span", { class: "mla-control", dir: "ltr" }, code + times));
    start = match.index + match[0].length;
  }
  node.append(text.slice(start));
}

function textBlock(text, language, direction) {
  const block = h("div", { class: "mla-text", lang: language, dir: direction });
  text = text.replace(/\r\n?/g, "\n");
  if (!text.trim()) {
    return h("div", { class: "mla-text mla-muted" }, say("empty"));
  }
  let end = Math.min(SHOWN_CHARS, text.length);
  if (end < text.length && /[\ud800-\udbff]/.test(text[end - 1])) end += 1;
  writeText(block, text.slice(0, end));
  if (end === text.length) return block;
  const more = h("button", { type: "button", class: "mla-quiet", onclick: () => {
    for (let from = end; from < text.length; from += SHOWN_CHARS) writeText(block, text.slice(from, from + SHOWN_CHARS));
    more.remove();
  } }, say("show_all", { n: number(text.length) }));
  return h("div", {}, block, more);
}

async function call(name, argument) {
  try {
    const answer = await server[name](argument);
    return answer && typeof answer === "object" ? answer : { error: "offline" };
  } catch {
    return { error: "offline" };
  }
}

function remember() {
  try {
    localStorage.setItem(STORAGE, JSON.stringify({ ui: state.ui, name: state.name, reads: state.reads }));
  } catch { /* storage may be off; the reader then types the name again */ }
}

function recall() {
  try {
    return JSON.parse(localStorage.getItem(STORAGE)) || {};
  } catch {
    return {};
  }
}

async function useLanguage(ui) {
  const study = await call("study_describe", { ui });
  if (study.error) return false;
  state.study = study;
  state.ui = study.ui;
  document.documentElement.lang = study.ui;
  document.title = study.messages.title;
  root.lang = study.ui;
  root.dir = study.direction;
  return true;
}

function show(...nodes) {
  root.replaceChildren(...nodes.filter((node) => node != null), h("p", { class: "mla-status", role: "status", "aria-live": "polite" }));
}

function status(text, kind) {
  const line = root.querySelector(".mla-status");
  if (line) {
    line.textContent = text;
    line.dataset.kind = kind || "";
  }
}

// Signing in

function showEntry() {
  const known = new Set(state.reads.length ? state.reads : navigator.languages.map((code) => code.split("-")[0]));
  const only = state.study.languages.length === 1;
  const name = h("input", { type: "text", id: "mla-name", maxlength: "64", autocomplete: "off", spellcheck: "false",
    "aria-describedby": "mla-name-hint", dir: "auto" });
  name.value = state.name;
  const page = h("select", { id: "mla-ui", onchange: async () => {
    keepEntry();
    if (await useLanguage(page.value)) {
      showEntry();
      root.querySelector("#mla-ui").focus();
    }
  } }, ...state.study.page_languages.map(([code, label]) =>
    h("option", { value: code, lang: code, selected: code === state.ui }, label)));
  const boxes = state.study.languages.map(({ code, name: label, own, items }) => {
    const box = h("input", { type: "checkbox", value: code });
    box.checked = only || known.has(code);
    return h("label", { class: "mla-check" }, box, h("span", { lang: code }, h("bdi", {}, own)),
      h("span", { class: "mla-muted" }, label === own ? "" : h("bdi", {}, label), " (" + number(items) + ")"));
  });
  const keepEntry = () => {
    state.name = name.value.trim();
    state.reads = [...root.querySelectorAll(".mla-check input:checked")].map((box) => box.value);
  };
  show(h("form", { class: "mla-card mla-entry", onsubmit: (event) => {
    event.preventDefault();
    keepEntry();
    if (!state.name) return status(say("need_name"), "problem"), name.focus();
    if (!state.reads.length) return status(say("need_language"), "problem");
    remember();
    openNext();
  } },
  h("h1", {}, say("title")),
  h("div", { class: "mla-field" }, h("label", { for: "mla-ui" }, say("page_language")), page),
  h("div", { class: "mla-field" }, h("label", { for: "mla-name" }, say("name")), name,
    h("p", { id: "mla-name-hint", class: "mla-muted" }, say("name_hint"))),
  h("fieldset", { class: "mla-field mla-checks" }, h("legend", {}, say("read")), ...boxes),
  h("button", { type: "submit", class: "mla-primary" }, say("start"))));
}

// Judging

async function openNext() {
  receive(await call("study_next", { name: state.name, languages: state.reads, ui: state.ui }));
}

async function goBack() {
  if (state.busy) return;
  const token = state.item ? state.item.token : null;
  const answer = await call("study_previous", { name: state.name, languages: state.reads, ui: state.ui, token });
  if (!answer.error && !answer.item) return status("", "");
  receive(answer);
}

function receive(answer, note) {
  state.busy = false;
  if (answer.error) {
    if (!root.querySelector(".mla-status")) show();
    return status(answer.error === "offline" ? say("not_saved") : answer.error, "problem");
  }
  state.item = answer.item;
  if (!answer.item) showEnd(answer);
  else showItem(answer);
  if (note && answer.item) status(note, "good");
}

function header(answer) {
  const label = say("progress", { done: number(answer.done), total: number(answer.total) });
  return h("header", { class: "mla-header" },
    h("div", { class: "mla-progress" },
      h("progress", { max: String(answer.total || 1), value: String(answer.done), "aria-label": label }),
      h("span", {}, label)),
    h("div", { class: "mla-tools" },
      h("bdi", { class: "mla-reader" }, state.name),
      h("button", { type: "button", class: "mla-quiet", onclick: signOut }, say("sign_out")),
      h("button", { type: "button", class: "mla-quiet mla-help", "aria-label": say("keys"), title: say("keys"),
        onclick: showKeys }, "?")));
}

function signOut() {
  state.item = null;
  const { name } = state;
  state.name = "";
  remember();
  state.name = name;
  showEntry();
  root.querySelector("#mla-name").focus();
}

function showEnd(answer) {
  show(header(answer), h("section", { class: "mla-card mla-end" },
    h("h1", { tabindex: "-1" }, say("done")), h("p", {}, say("done_hint")),
    answer.can_go_back ? h("button", { type: "button", class: "mla-secondary", onclick: goBack }, say("back")) : null));
  root.querySelector("h1").focus();
}

function showItem(answer) {
  const item = answer.item;
  const earlier = item.earlier || {};
  state.preference = earlier.preference || null;
  state.points = earlier.points ? earlier.points.map((pair) => [...pair]) : [[null, null], [null, null]];
  const turns = item.turns.map(([role, text]) => h("div", { class: "mla-turn", "data-role": role },
    item.turns.length > 1 ? h("h3", {}, roleName(role)) : null, textBlock(text, item.language, item.direction)));
  show(header(answer),
    item.earlier ? h("p", { class: "mla-note" }, say("earlier")) : null,
    h("section", { class: "mla-card mla-prompt", "aria-labelledby": "mla-prompt" },
      h("div", { class: "mla-head" }, h("h2", { id: "mla-prompt", tabindex: "-1" }, say("prompt")),
        h("span", { class: "mla-badge" }, item.language_name)), ...turns),
    h("div", { class: "mla-answers" }, ...item.answers.map((text, index) => answerCard(item, text, index))),
    preferenceBar(answer));
  markRow();
  window.scrollTo(0, 0);
  root.querySelector("#mla-prompt").focus({ preventScroll: true });
}

function roleName(role) {
  return ["user", "assistant", "system"].includes(role) ? say(role) : role;
}

function answerCard(item, text, index) {
  const id = "mla-answer-" + index;
  return h("section", { class: "mla-card mla-answer", "aria-labelledby": id },
    h("div", { class: "mla-head" }, h("h2", { id }, say("answer", { letter: LETTERS[index] }))),
    textBlock(text, item.language, item.direction),
    state.study.points ? h("div", { class: "mla-points" }, ...KINDS.map((kind, k) => pointRow(index, k)),
      h("p", { class: "mla-muted mla-scale" }, say("scale"))) : null);
}

function pointRow(index, k) {
  const kind = KINDS[k];
  const name = "mla-" + kind + "-" + index;
  return h("fieldset", { class: "mla-row", "data-index": index, "data-kind": k },
    h("legend", {}, say(kind), h("span", { class: "mla-muted" }, say(kind + "_hint"))),
    h("div", { class: "mla-scale-buttons", dir: root.dir }, ...[1, 2, 3, 4, 5].map((value) => {
      const input = h("input", { type: "radio", name, value, "aria-label": value + ", " + say(kind) + ", " +
        say("answer", { letter: LETTERS[index] }), onchange: () => setPoint(index, k, value) });
      input.checked = state.points[index][k] === value;
      return h("label", {}, input, h("span", {}, String(value)));
    })));
}

function preferenceBar(answer) {
  return h("footer", { class: "mla-card mla-decide" },
    h("fieldset", { class: "mla-preference" }, h("legend", {}, say("preference")),
      h("div", { class: "mla-choices" }, ...PREFERENCES.map(([value, key, letter]) => {
        const input = h("input", { type: "radio", name: "mla-preference", value, onchange: () => setPreference(value) });
        input.checked = state.preference === value;
        return h("label", {}, input, h("span", {}, say(key), h("kbd", { "aria-hidden": "true" }, letter)));
      }))),
    h("div", { class: "mla-actions" },
      h("button", { type: "button", class: "mla-secondary", disabled: !answer.can_go_back, onclick: goBack }, say("back")),
      h("button", { type: "button", class: "mla-secondary", onclick: () => save(true) }, say("skip")),
      h("button", { type: "button", class: "mla-primary", id: "mla-save", onclick: () => save(false) }, say("save"))));
}

function setPoint(index, k, value) {
  state.points[index][k] = value;
  markRow();
  status("", "");
}

function setPreference(value) {
  state.preference = value;
  markRow();
  status("", "");
}

function rows() {
  return [...root.querySelectorAll(".mla-row")];
}

function isEmpty(row) {
  return state.points[row.dataset.index][row.dataset.kind] == null;
}

function activeRow() {
  const focused = document.activeElement && document.activeElement.closest(".mla-row");
  return focused || rows().find(isEmpty) || null;
}

function markRow() {
  const active = activeRow();
  rows().forEach((row) => row.classList.toggle("mla-active", row === active));
  const button = root.querySelector("#mla-save");
  if (button) button.classList.toggle("mla-incomplete", missing().length > 0);
}

function missing() {
  const parts = rows().filter(isEmpty).map((row) =>
    say(KINDS[row.dataset.kind]) + " " + LETTERS[row.dataset.index]);
  return state.preference ? parts : [...parts, say("preference")];
}

async function save(skip) {
  if (state.busy || !state.item) return;
  if (!skip && missing().length) return status(say("missing", { parts: missing().join(" · ") }), "problem");
  state.busy = true;
  const answer = await call("study_save", { name: state.name, languages: state.reads, ui: state.ui,
    token: state.item.token, preference: skip ? null : state.preference,
    points: skip || !state.study.points ? [[null, null], [null, null]] : state.points });
  receive(answer, say("saved"));
}

// Keyboard

function showKeys() {
  const lines = [...PREFERENCES.map(([, key, letter]) => [letter, say(key)]), ["1 – 5", say("key_points")],
    ["Enter", say("save")], ["U", say("back")], ["S", say("skip")], ["?", say("keys")]];
  const dialog = h("dialog", { class: "mla-dialog", "aria-labelledby": "mla-keys", onclose: () => dialog.remove() },
    h("h2", { id: "mla-keys" }, say("keys")),
    h("dl", {}, ...lines.flatMap(([key, text]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, text)])),
    h("button", { type: "button", class: "mla-primary", onclick: () => dialog.close() }, say("close")));
  root.append(dialog);
  dialog.showModal();
}

function letterOf(event) {
  // on a keyboard of another script, the key in the place where that letter is on a Latin one
  if (/^[a-z?]$/i.test(event.key)) return event.key.toLowerCase();
  return /^Key[A-Z]$/.test(event.code) ? event.code.slice(3).toLowerCase() : "";
}

function choose(name, value) {
  const input = root.querySelector(`input[name="${name}"][value="${value}"]`);
  if (!input) return;
  input.checked = true;
  input.dispatchEvent(new Event("change"));
}

function givePoints(value) {
  const row = activeRow();
  if (!row) return;
  choose("mla-" + KINDS[row.dataset.kind] + "-" + row.dataset.index, value);
  const all = rows();
  const next = all.slice(all.indexOf(row) + 1).find(isEmpty) || all.find(isEmpty);
  const target = next ? next.querySelector("input")
    : state.preference ? root.querySelector("#mla-save") : root.querySelector(".mla-preference input");
  target.focus();
  markRow();
}

function onKey(event) {
  if (!state.item || event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.isComposing) return;
  if (root.querySelector("dialog[open]") || event.target.closest("select, textarea, input[type=text]")) return;
  const digit = /^[1-5]$/.test(event.key) ? event.key : (/^(?:Digit|Numpad)([1-5])$/.exec(event.code) || [])[1];
  const letter = letterOf(event);
  const preference = PREFERENCES.find(([, , key]) => key.toLowerCase() === letter);
  if (event.key === "Enter" && !event.target.closest("button")) save(false);
  else if (digit && !event.shiftKey || digit && /^[1-5]$/.test(event.key)) givePoints(Number(digit));
  else if (event.key === "?") showKeys();
  else if (preference) choose("mla-preference", preference[0]);
  else if (letter === "u") goBack();
  else if (letter === "s") save(true);
  else return;
  event.preventDefault();
}

async function start() {
  const kept = recall();
  const wanted = kept.ui || navigator.language.split("-")[0];
  if (!(await useLanguage(wanted))) return setTimeout(start, 2000);
  const there = new Set(state.study.languages.map(({ code }) => code));
  state.name = kept.name || "";
  state.reads = (kept.reads || []).filter((code) => there.has(code));
  if (state.name && state.reads.length) openNext();
  else showEntry();
}

document.addEventListener("keydown", onKey);
root.addEventListener("focusin", markRow);
start();
