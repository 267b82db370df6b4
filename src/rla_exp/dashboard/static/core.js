// Data, filters and formats that all pages share. Classic scripts: modules do not load from file:// addresses.
"use strict";

const rla = (() => {
  const root = document.body.dataset.root;
  const received = new Map();
  const loading = new Map();
  let index = [];

  /** Called by data/index.js. */
  function setIndex(groups) {
    index = groups;
  }

  /** Called by data/<kind>/<id>.js. */
  function receive(kind, id, content) {
    received.set(`${kind}/${id}`, content);
  }

  /** What data/<kind>/<id>.js holds; a script element, for a page from file:// may not fetch. */
  function load(kind, id) {
    const name = `${kind}/${id}`;
    if (!loading.has(name)) {
      loading.set(name, new Promise((resolve, reject) => {
        const script = document.createElement("script");
        script.src = `${root}data/${name}.js`;
        script.onload = () => resolve(received.get(name));
        script.onerror = () => reject(new Error(`cannot load ${script.src}`));
        document.head.append(script);
      }));
    }
    return loading.get(name);
  }

  /** The page's state lives behind the # of its address, so that a view can be kept and sent. */
  function readAddress() {
    return new URLSearchParams(location.hash.slice(1));
  }

  function writeAddress(values) {
    const words = readAddress();
    for (const [key, value] of Object.entries(values)) {
      if (value) words.set(key, value);
      else words.delete(key);
    }
    history.replaceState(null, "", words.size ? `#${words}` : location.pathname.split("/").pop());
  }

  /** Keep a control and the address equal; call onChange after every change. */
  function bindControl(control, key, standard, onChange) {
    const wanted = readAddress().get(key);
    if (wanted && [...control.options].some((option) => option.value === wanted)) control.value = wanted;
    control.addEventListener("change", () => {
      writeAddress({ [key]: control.value === standard ? "" : control.value });
      onChange();
    });
  }

  /** Fill a form from the address, keep both equal, call onChange after every change. */
  function bindFilters(form, onChange) {
    const controls = [...form.elements].filter((control) => control.name);
    const words = readAddress();
    for (const control of controls) {
      const wanted = words.get(control.name);
      const known = !control.options || [...control.options].some((option) => option.value === wanted);
      if (wanted && known) control.value = wanted;
    }
    const changed = () => {
      writeAddress(readFilters(form));
      onChange();
    };
    form.addEventListener("input", changed);
    form.addEventListener("reset", () => setTimeout(changed));
    form.addEventListener("submit", (event) => event.preventDefault());
  }

  function readFilters(form) {
    return Object.fromEntries([...form.elements].filter((control) => control.name)
      .map((control) => [control.name, control.value.trim()]));
  }

  /** Whether an item passes: equal where a filter names a field, and every word of q is in its text. */
  function passes(filters, fields, text) {
    const { q = "", ...exact } = filters;
    if (Object.entries(exact).some(([key, value]) => value && fields[key] !== value)) return false;
    const searched = text.toLowerCase();
    return q.toLowerCase().split(/\s+/).every((word) => searched.includes(word));
  }

  /** Four significant digits, thousands grouped; a dash for nothing. */
  function number(value) {
    if (value === null || value === undefined) return "–";
    if (Math.abs(value) >= 10000) return Math.round(value).toLocaleString("en");
    return String(Number(value.toPrecision(4)));
  }

  /** An element with attributes and children (texts or elements). */
  function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  /** The page shows what it should; tests wait for this and read its time. */
  function ready() {
    if (document.body.dataset.ready) return;
    performance.mark("ready");
    document.body.dataset.ready = "true";
  }

  /** Another view in the address (an edited address, a link within the page) is a new page. */
  function followAddress() {
    window.addEventListener("hashchange", () => location.reload());
    // a fragment would replace the view in the address
    document.querySelector("a.skip").addEventListener("click", (event) => {
      event.preventDefault();
      document.getElementById("content").focus();
    });
  }

  followAddress();
  return {
    setIndex, receive, load, readAddress, writeAddress, bindControl, bindFilters, readFilters, passes, number, element,
    ready, root, get groups() { return index; },
  };
})();
