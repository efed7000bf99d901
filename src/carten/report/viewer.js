// The worst structures: chemiscope draws them; the buttons here and the links of the table choose one.
(async () => {
  const text = (name) => document.getElementById("viewer-" + name).textContent;
  const names = JSON.parse(text("names"));
  const script = document.createElement("script");
  script.textContent = await unpack(text("library"));
  document.head.append(script);
  const places = { meta: "viewer-meta", structure: "viewer-structure", info: "viewer-info" };
  const shown = await Chemiscope.StructureVisualizer.load(places, JSON.parse(text("data")));
  let current = 0;
  const show = (index) => {
    current = (index + names.length) % names.length;
    document.getElementById("viewer-name").textContent = names[current];
    document.getElementById("viewer-count").textContent = `${current + 1} of ${names.length}`;
    document.querySelectorAll("[data-show]").forEach((link) => {
      link.toggleAttribute("aria-current", Number(link.dataset.show) === current);
    });
    shown.structure.show({ structure: current, environment: 0 });
  };
  document.addEventListener("click", (event) => {
    const link = event.target.closest("[data-show], [data-turn]");
    if (link === null) return;
    show(link.dataset.show === undefined ? current + Number(link.dataset.turn) : Number(link.dataset.show));
    if (link.dataset.show !== undefined) document.getElementById("viewer").scrollIntoView({ block: "center" });
  });
  show(0);
  window.dispatchEvent(new Event("resize"));
  document.getElementById("viewer").dataset.state = "ready";
})().catch((error) => {
  const viewer = document.getElementById("viewer");
  viewer.dataset.state = "failed";
  viewer.textContent = "The structures cannot be shown in this browser: " + error.message;
});
