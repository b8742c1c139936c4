/* Filters the image browser, keeps the filter in the address, and marks where in the page the reader is. */
(() => {
  "use strict";
  const KEYS = ["dataset", "class", "model", "method", "answer"];
  const PAGE = 24;
  const form = document.getElementById("filters");

  function browse() {
    const cards = [...document.querySelectorAll(".card")];
    const count = document.getElementById("count");
    const more = document.getElementById("more");
    const methodRule = document.head.appendChild(document.createElement("style"));
    let limit = PAGE;

    const chosen = () => Object.fromEntries(KEYS.map((key) => [key, form.elements[key].value]));

    function matching(filter) {
      const keys = KEYS.filter((key) => key !== "method" && filter[key]);
      return cards.filter((card) => keys.every((key) => card.dataset[key] === filter[key]));
    }

    function offerClasses(dataset) {
      for (const group of form.elements.class.querySelectorAll("optgroup")) {
        group.hidden = group.disabled = Boolean(dataset) && group.label !== dataset;
      }
      const option = form.elements.class.selectedOptions[0];
      if (option?.parentElement.disabled) form.elements.class.value = "";
    }

    function show() {
      offerClasses(form.elements.dataset.value);
      const filter = chosen();
      const found = matching(filter);
      const shown = new Set(found.slice(0, limit));
      for (const card of cards) card.hidden = !shown.has(card);
      methodRule.textContent = filter.method
        ? `#browser [data-method]:not([data-method="${CSS.escape(filter.method)}"]) { display: none; }`
        : "";
      const rest = found.length - shown.size;
      more.hidden = rest === 0;
      more.textContent = `Show ${Math.min(rest, PAGE)} more`;
      const all = found.length < cards.length ? `, ${cards.length} in all` : "";
      count.textContent = found.length ? `${shown.size} of ${found.length} shown${all}` : `No image matches${all}`;
      return found;
    }

    function remember() {
      const query = new URLSearchParams(Object.entries(chosen()).filter(([, value]) => value)).toString();
      history.replaceState(null, "", query ? `#browser?${query}` : "#browser");
    }

    function recall() {
      const [place, query] = location.hash.slice(1).split("?");
      if (place !== "browser" || query === undefined) return;
      const wanted = new URLSearchParams(query);
      for (const key of KEYS) {
        const select = form.elements[key];
        select.value = wanted.get(key) ?? "";
        if (select.selectedIndex < 0) select.value = "";
      }
      limit = PAGE;
      show();
      document.getElementById("browser").scrollIntoView();
    }

    function choose() {
      limit = PAGE;
      show();
      remember();
    }

    form.addEventListener("change", choose);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", () => setTimeout(choose)); /* the fields are cleared after the event */
    more.addEventListener("click", () => {
      const first = limit;
      limit += PAGE;
      show()[first].focus();
    });
    window.addEventListener("hashchange", recall);
    form.hidden = false;
    show();
    recall();
  }

  function follow() {
    const links = new Map(
      [...document.querySelectorAll(".contents a")].map((link) => [link.hash.slice(1), link]),
    );
    const places = [...links.keys()].map((id) => document.getElementById(id));
    const contents = document.querySelector(".contents");
    const mark = () => {
      const shown = places.filter((place) => links.get(place.id).offsetParent);
      const passed = shown.filter((place) => place.getBoundingClientRect().top < 120);
      const here = links.get((passed.at(-1) ?? shown[0]).id);
      if (here.ariaCurrent) return;
      for (const link of links.values()) link.ariaCurrent = link === here ? "true" : null;
      contents.scrollLeft = here.offsetLeft - contents.offsetLeft - 16;
    };
    let waiting = false;
    document.addEventListener("scroll", () => {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => {
        waiting = false;
        mark();
      });
    }, { passive: true });
    mark();
  }

  if (form) browse();
  follow();
})();
