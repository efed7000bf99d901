// Saving figures as SVG and PNG, and tables as CSV.
const unpack = async (base64) => {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
};

const download = (blob, name) => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
};

// The figure on white with the colours of the light page, complete in itself.
const drawn = (svg) => {
  const root = document.documentElement;
  root.dataset.theme = "light";
  const style = getComputedStyle(root);
  const text = new XMLSerializer().serializeToString(svg);
  const resolved = text.replace(/var\((--[a-z0-9-]+)\)/g, (_, name) => style.getPropertyValue(name).trim().replaceAll('"', "'"));
  delete root.dataset.theme;
  const { width, height } = svg.viewBox.baseVal;
  const size = `width="${width}pt" height="${height}pt" style="background: #ffffff" `;
  return { text: resolved.replace("<svg ", `<svg ${size}`), width, height };
};

const png = ({ text, width, height }) => new Promise((resolve, reject) => {
  const image = new Image();
  image.onload = () => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [Math.round(4 * width), Math.round(4 * height)];
    const context = canvas.getContext("2d");
    context.fillStyle = "#ffffff";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(image, 0, 0, canvas.width, canvas.height);
    canvas.toBlob(resolve, "image/png");
  };
  image.onerror = () => reject(new Error("the figure cannot be drawn"));
  image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(text);
});

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-save]");
  if (button === null) return;
  const { save, name, table } = button.dataset;
  if (save === "csv") {
    const text = await unpack(document.getElementById("table-" + table).textContent);
    return download(new Blob([text], { type: "text/csv" }), `${name}.csv`);
  }
  const figure = drawn(button.closest("figure").querySelector("svg"));
  const blob = save === "svg" ? new Blob([figure.text], { type: "image/svg+xml" }) : await png(figure);
  download(blob, `${name}.${save}`);
});
