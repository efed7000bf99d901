// Values under the cursor: figures carry their points in the attribute data-points.
const tip = Object.assign(document.createElement("div"), { className: "tip", hidden: true });
tip.setAttribute("role", "status");
document.body.append(tip);
const mark = document.createElementNS("http://www.w3.org/2000/svg", "circle");
mark.setAttribute("r", "3.2");
mark.setAttribute("fill", "none");
mark.setAttribute("stroke", "var(--ink)");
mark.setAttribute("pointer-events", "none");

const REACH = 22; // pixels from a point within which it is shown
const digits = (value) => Number(value.toPrecision(5)).toString();

const nearest = (svg, x, y) => {
  let best = null;
  for (const axes of JSON.parse(svg.dataset.points)) {
    for (const series of axes.series) {
      series.at.forEach(([px, py], index) => {
        const distance = Math.hypot(px - x, py - y);
        if (best === null || distance < best.distance) best = { distance, px, py, axes, series, values: series.values[index] };
      });
    }
  }
  return best;
};

const hideTip = () => { tip.hidden = true; mark.remove(); };

document.addEventListener("pointermove", (event) => {
  const svg = event.target.closest?.("svg[data-points]");
  if (!svg) return hideTip();
  const place = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  const best = nearest(svg, place.x, place.y);
  if (best === null || best.distance * svg.getScreenCTM().a > REACH) return hideTip();
  const { axes, series, values } = best;
  tip.textContent = "";
  const lines = [series.name, `${axes.x}: ${digits(values[0])}`, `${axes.y}: ${digits(values[1])}`];
  for (const line of lines.filter((text) => text)) tip.append(Object.assign(document.createElement("div"), { textContent: line }));
  tip.hidden = false;
  tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 6))}px`;
  tip.style.top = `${Math.max(4, event.clientY - tip.offsetHeight - 12)}px`;
  mark.setAttribute("cx", best.px);
  mark.setAttribute("cy", best.py);
  svg.append(mark);
});
document.addEventListener("scroll", hideTip, { passive: true });
