"use strict";
(() => {
  const MARGIN = { l: 64, r: 18, t: 30, b: 52 };
  const FONT_PX = 12;
  const CLEARANCE_PX = 8; // half the width of a typical symbol

  const figures = JSON.parse(document.getElementById("figures").textContent);
  const pen = document.createElement("canvas").getContext("2d");

  /** Every string that names a CSS variable, replaced by what the page's palette says now. */
  function coloured(value, palette) {
    if (typeof value === "string") return value.startsWith("--") ? palette.getPropertyValue(value).trim() : value;
    if (Array.isArray(value)) return value.map((item) => coloured(item, palette));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, coloured(item, palette)]));
  }

  function pixels(figure, width, height) {
    const { xaxis, yaxis } = figure.layout;
    const share = (value, [low, high]) => (value - low) / (high - low);
    const plotWidth = width - MARGIN.l - MARGIN.r;
    const plotHeight = height - MARGIN.t - MARGIN.b;
    return {
      width: plotWidth,
      height: plotHeight,
      x: (value) => plotWidth * share(xaxis.type === "log" ? Math.log10(value) : value, xaxis.range),
      y: (value) => plotHeight * (1 - share(value, yaxis.range)),
    };
  }

  function overlap(a, b) {
    const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    return wide > 0 && high > 0 ? wide * high : 0;
  }

  function boxAround(x, y, width, height) {
    return { left: x - width / 2, right: x + width / 2, top: y - height / 2, bottom: y + height / 2 };
  }

  function plainText(text) {
    return new DOMParser().parseFromString(text, "text/html").body.textContent;
  }

  /** The limits and the steps of the front, as thin boxes; cheap to cross, so a label does only where it must. */
  function lines(figure, at) {
    const limits = figure.layout.shapes.filter((shape) => shape.type === "line").map((shape) => (
      shape.yref === "paper"
        ? boxAround(at.width * shape.x0, at.height / 2, 3, at.height)
        : boxAround(at.width / 2, at.y(shape.y0), at.width, 3)));
    const steps = figure.data.filter((trace) => trace.mode === "lines").flatMap(({ x, y }) => x.slice(1).flatMap((_, i) => {
      const [left, right, low, high] = [at.x(x[i]), at.x(x[i + 1]), at.y(y[i]), at.y(y[i + 1])];
      return [
        boxAround((left + right) / 2, low, right - left, 2),
        boxAround(right, (low + high) / 2, 2, low - high),
      ];
    }));
    return [...limits, ...steps];
  }

  /** Boxes that a label should stay clear of. */
  function obstacles(figure, at) {
    const symbols = figure.data
      .filter((trace) => trace.mode === "markers")
      .flatMap((trace) => trace.x.map((x, i) => boxAround(at.x(x), at.y(trace.y[i]), 2 * CLEARANCE_PX, 2 * CLEARANCE_PX)));
    return [...symbols, ...lines(figure, at)];
  }

  /** The name of a horizontal limit goes where along its line, and on which side, it hides least. */
  function named(note, taken, at) {
    if (note.yref === "paper") return note;
    const width = pen.measureText(plainText(note.text)).width + 8;
    let best = null;
    for (const share of [1, 0.8, 0.6, 0.4, 0.2, 0]) {
      for (const [side, yanchor] of [[1, "top"], [-1, "bottom"]]) {
        const x = width / 2 + share * (at.width - width);
        const box = boxAround(x, at.y(note.y) + side * 11, width, 16);
        const outside = Math.max(0, -box.top) + Math.max(0, box.bottom - at.height);
        const cost = taken.reduce((sum, other) => sum + overlap(box, other), 0) + width * outside;
        if (best === null || cost < best.cost) best = { cost, box, x: x / at.width, yanchor };
      }
    }
    taken.push(best.box);
    return { ...note, x: best.x, xanchor: "center", yanchor: best.yanchor };
  }

  /** Greedy placement: for each label the spot around its point that hides least and lies nearest. */
  function placed(figure, at) {
    const taken = obstacles(figure, at);
    const names = figure.layout.annotations.map((note) => named(note, taken, at));
    return names.concat(figure.labels.map((label) => {
      const [x, y] = [at.x(label.x), at.y(label.y)];
      const width = pen.measureText(plainText(label.text)).width + 8;
      let best = null;
      for (const distance of [0, 10, 22, 36, 52, 70]) {
        for (let turn = 0; turn < 16; turn += 1) {
          const angle = (turn * Math.PI) / 8;
          const ax = Math.cos(angle) * (distance + width / 2 + 9);
          const ay = Math.sin(angle) * (distance + 19);
          const box = boxAround(x + ax, y + ay, width, 18);
          const outside = 18 * (Math.max(0, -box.left) + Math.max(0, box.right - at.width - MARGIN.r + 4))
            + width * (Math.max(0, -box.top) + Math.max(0, box.bottom - at.height));
          const cost = taken.reduce((sum, other) => sum + overlap(box, other), 0) + 3 * outside + distance;
          if (best === null || cost < best.cost) best = { ax, ay, box, cost, distance };
        }
      }
      taken.push(best.box);
      return {
        x: figure.layout.xaxis.type === "log" ? Math.log10(label.x) : label.x,
        y: label.y, text: label.text, ax: best.ax, ay: best.ay,
        showarrow: true, arrowhead: 0, arrowwidth: 1, standoff: 8, borderpad: 1,
        arrowcolor: best.distance > 0 ? "--muted" : "rgba(0,0,0,0)",
        font: { color: label.color }, bgcolor: "--label",
      };
    }));
  }

  function draw(place, figure) {
    const { clientWidth: width, clientHeight: height } = place;
    if (!width || !height) return;
    const style = getComputedStyle(document.body);
    const palette = getComputedStyle(document.documentElement);
    pen.font = `${FONT_PX}px ${style.fontFamily}`;
    const layout = {
      ...figure.layout,
      annotations: placed(figure, pixels(figure, width, height)),
      width, height,
      margin: { ...MARGIN, autoexpand: false },
      font: { family: style.fontFamily, size: FONT_PX, color: "--ink" },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      hoverlabel: { bgcolor: "--surface", bordercolor: "--muted", align: "left", font: { color: "--ink" } },
      showlegend: false, hovermode: "closest", uirevision: "keep",
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
    };
    const { data, layout: dressed } = coloured({ data: figure.data, layout }, palette);
    Plotly.react(place, data, dressed, { displayModeBar: false, displaylogo: false });
  }

  function drawAll() {
    for (const [id, figure] of Object.entries(figures)) draw(document.getElementById(id), figure);
  }

  function offerCopy(button) {
    const code = button.parentElement.querySelector("pre");
    button.addEventListener("click", () => {
      getSelection().selectAllChildren(code);
      navigator.clipboard?.writeText(code.textContent).then(() => { button.textContent = "Copied"; }, () => {});
    });
    button.hidden = false;
  }

  document.querySelectorAll("button").forEach(offerCopy);
  if (Object.keys(figures).length === 0) return;
  drawAll();
  for (const query of ["(prefers-color-scheme: dark)", "print"]) matchMedia(query).addEventListener("change", drawAll);
  const seen = new ResizeObserver(() => requestAnimationFrame(drawAll));
  for (const id of Object.keys(figures)) seen.observe(document.getElementById(id));
})();
